//! What a consumer handles.

use super::{AT_LEAST, Bench, Figure};
use crate::Error;

const EVENTS: &str = "20000";
const ROUNDS: usize = 4;
const CONTENDERS: [(&[&str], &str); 3] = [
    (&["consume-hand", EVENTS], "by hand, one event after the other"),
    (&["consume-outbox", EVENTS, "1"], "outbox, one handler at a time"),
    (&["consume-outbox", EVENTS, "8"], "outbox, 8 handlers, the default"),
];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "consumers",
        "Handling events",
        &format!(
            "{EVENTS} events of 1,000 keys on 6 partitions, {ROUNDS} rounds: begin, a row of the inbox, one of the effect, commit, and \
             then the offset. By hand it is the same SQL in a loop of rdkafka. From the first event to the last."
        ),
        &Bench::setting(),
        &["events/s", "its own CPU s per million", "peak memory, MiB"],
    );
    bench.part(&["consume-fill", EVENTS])?;
    let millions = EVENTS.parse::<f64>().unwrap_or(f64::NAN) / 1e6;
    for round in 0..ROUNDS {
        let mut rates = [0.0; CONTENDERS.len()];
        for turn in 0..CONTENDERS.len() {
            let contender = (turn + round) % CONTENDERS.len();
            let (part, name) = CONTENDERS[contender];
            let (printed, [own, ..]) = bench.timed_part(part)?;
            rates[contender] = printed.number("rate")?;
            figure.push(name, &[rates[contender], own / millions, printed.number("peak_mib")?]);
        }
        figure.ratio(
            "handling: outbox, one at a time / by hand",
            rates[1] / rates[0],
            AT_LEAST(0.9),
        );
        figure.ratio("handling: outbox, 8 handlers / by hand", rates[2] / rates[0], None);
    }
    Ok(vec![figure])
}
