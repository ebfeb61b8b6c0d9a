//! What an event costs those who write it.

use super::{AT_LEAST, Bench, Figure};
use crate::Error;

const ROUNDS: usize = 5;
const SECONDS: &str = "4";
const CONTENDERS: [(&str, &str); 4] = [
    ("hand", "by hand"),
    ("macro", "outbox"),
    ("hand-unrung", "by hand, not rung"),
    ("none", "no event"),
];

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
        &["transactions/s"],
    );
    bench.part(&["fill-outbox", "0"])?;
    for connections in ["1", "8", "64"] {
        let connected =
            if connections == "1" { "1 connection" } else { &format!("{connections} connections") };
        for round in 0..ROUNDS {
            let mut rates = [0.0; CONTENDERS.len()];
            for turn in 0..CONTENDERS.len() {
                let contender = (turn + round) % CONTENDERS.len();
                let (kind, name) = CONTENDERS[contender];
                rates[contender] =
                    bench.part(&["writers", kind, connections, SECONDS])?.number("rate")?;
                figure.push(&format!("{connected}: {name}"), &[rates[contender]]);
            }
            let what = format!("transactions/s over {connected}: outbox / by hand");
            figure.ratio(&what, rates[1] / rates[0], AT_LEAST(0.97));
        }
    }
    Ok(vec![figure])
}
