//! What an event costs those who write it.

use outbox_bench_report::{Part, Way, Written};

use super::{AT_LEAST, Bench, Figure};
use crate::Error;

const ROUNDS: usize = 5;
const SECONDS: u64 = 4;
const CONTENDERS: [(Way, &str); 4] = [
    (Way::ByHand { rings: true }, "by hand"),
    (Way::Outbox, "outbox"),
    (Way::ByHand { rings: false }, "by hand, not rung"),
    (Way::NoEvent, "no event"),
];

const RATE: &str = "transactions/s";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "writers",
        "Business transactions",
        &format!(
            "One insert into a table, without an event, with an event by hand-written SQL and a ring of the doorbell after the \
             commit, the same without the ring, and by `#[transactional_outbox]`; {ROUNDS} rounds of {SECONDS} s, with a \
             relay in a process of its own that publishes the events, on the same two cores: rung, it does so at once, and \
             takes the more of them."
        ),
        &Bench::setting(),
        &[RATE],
    );
    bench.run::<()>(&Part::FillOutbox { events: 0 })?;
    for connections in [1, 8, 64] {
        let connected = match connections {
            1 => "1 connection".to_owned(),
            several => format!("{several} connections"),
        };
        for round in 0..ROUNDS {
            let mut rates = [0.0; CONTENDERS.len()];
            for turn in 0..CONTENDERS.len() {
                let contender = (turn + round) % CONTENDERS.len();
                let (way, name) = CONTENDERS[contender];
                let part = Part::Write { way, connections, seconds: SECONDS };
                let written: Written = bench.run(&part)?;
                rates[contender] = written.rate;
                figure.push(&format!("{connected}: {name}"), &[(RATE, written.rate)]);
            }
            let [by_hand, ours, ..] = rates;
            let what = format!("transactions/s over {connected}: outbox / by hand");
            figure.ratio(&what, ours / by_hand, AT_LEAST(0.97));
        }
    }
    Ok(vec![figure])
}
