//! What a consumer handles.

use outbox_bench_report::{Consumer, Handled, Part};

use super::{AT_LEAST, Bench, Figure, PROGRAM};
use crate::Error;

const EVENTS: u64 = 20_000;
const ROUNDS: usize = 4;
const CONTENDERS: [(Consumer, &str); 5] = [
    (Consumer::ByHand, "by hand, one event after the other"),
    (Consumer::Outbox { concurrency: 1, shared: 1 }, "outbox, one handler at a time"),
    (Consumer::ByHandInTasks { tasks: 8 }, "by hand, 8 tasks"),
    (Consumer::Outbox { concurrency: 8, shared: 1 }, "outbox, 8 handlers, the default"),
    (Consumer::Outbox { concurrency: 8, shared: 50 }, "outbox, 8 handlers, shared transactions"),
];

const RATE: &str = "events/s";
const OWN_CPU: &str = "its own CPU s per million";
const MEMORY: &str = "peak memory, MiB";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "consumers",
        "Handling events",
        &format!(
            "{EVENTS} events of 1,000 keys on 6 partitions, {ROUNDS} rounds: begin, a row of the inbox, one of the effect, commit, and \
             then the offset. By hand it is the same SQL in a loop of rdkafka; in tasks, each has some of the keys. Up to 50 events \
             share a transaction. From the first event to the last."
        ),
        &Bench::setting(),
        &[RATE, OWN_CPU, MEMORY],
    );
    bench.run::<()>(&Part::FillTopic { events: EVENTS })?;
    for round in 0..ROUNDS {
        let mut rates = [0.0; CONTENDERS.len()];
        for turn in 0..CONTENDERS.len() {
            let contender = (turn + round) % CONTENDERS.len();
            let (consumer, name) = CONTENDERS[contender];
            let part = Part::Handle { consumer, events: EVENTS };
            let (handled, cpu) = bench.run_timed::<Handled>(PROGRAM, &part)?;
            rates[contender] = handled.rate;
            let own = cpu.per_million(EVENTS as f64).own;
            let samples = [(RATE, handled.rate), (OWN_CPU, own), (MEMORY, handled.peak_mib)];
            figure.push(name, &samples);
        }
        let [by_hand, one, in_tasks, eight, shared] = rates;
        let what = "handling: outbox, one at a time / by hand";
        figure.ratio(what, one / by_hand, AT_LEAST(0.9));
        figure.ratio("handling: outbox, 8 handlers / by hand", eight / by_hand, None);
        let what = "handling: outbox, 8 handlers / by hand, 8 tasks";
        figure.ratio(what, eight / in_tasks, AT_LEAST(1.0));
        let what = "handling: outbox, 8 handlers, shared transactions / each its own";
        figure.ratio(what, shared / eight, None);
    }
    Ok(vec![figure])
}
