//! How fast dead letters are found, read and replayed.

use outbox_bench_report::{Handled, LettersBy, Part};

use super::{AT_LEAST, AT_MOST, Bench, Figure, PROGRAM};
use crate::Error;

const LETTERS: u64 = 1_000_000;
const ROUNDS: usize = 3;
const WAYS: [(LettersBy, &str); 3] = [
    (LettersBy::PlainConsumer, "a consumer that counts them"),
    (LettersBy::Select, "outbox, found by class and error"),
    (LettersBy::Read, "outbox, found and read"),
];

const RATE: &str = "dead letters/s";
const MEMORY: &str = "peak memory, MiB";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "letters",
        "Dead letters",
        &format!(
            "{LETTERS} dead letters with their 18 headers on 6 partitions, {ROUNDS} rounds, each in a new process. What is found and \
             read is read twice: whether a dead letter is open is known at the end of its topic. Replayed once, at the end: each is \
             sent, and marked."
        ),
        &Bench::setting(),
        &[RATE, MEMORY],
    );
    bench.run::<()>(&Part::FillLetters { letters: LETTERS })?;
    let measure = |figure: &mut Figure, by, name| -> Result<Handled, Error> {
        let (measured, _) =
            bench.run_timed::<Handled>(PROGRAM, &Part::Letters { by, letters: LETTERS })?;
        figure.push(name, &[(RATE, measured.rate), (MEMORY, measured.peak_mib)]);
        Ok(measured)
    };
    for round in 0..ROUNDS {
        let mut measured = [Handled { rate: 0.0, peak_mib: 0.0 }; WAYS.len()];
        for turn in 0..WAYS.len() {
            let way = (turn + round) % WAYS.len();
            measured[way] = measure(&mut figure, WAYS[way].0, WAYS[way].1)?;
        }
        let [consumer, select, read] = measured;
        let found = "dead letters: found / counted by a consumer";
        figure.ratio(found, select.rate / consumer.rate, AT_LEAST(0.5));
        figure.ratio("dead letters: MiB to find them", select.peak_mib, AT_MOST(100.0));
        figure.ratio("dead letters: MiB to find and read them", read.peak_mib, AT_MOST(100.0));
    }
    measure(&mut figure, LettersBy::Replay, "outbox, found and replayed")?;
    Ok(vec![figure])
}
