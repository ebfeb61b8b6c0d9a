//! From the commit to a consumer.

use super::{AT_MOST, Bench, Figure, Printed};
use crate::Error;

const ROUNDS: usize = 5;
const DISTURBED_ROUNDS: usize = 3;
const DEBEZIUM_ROUNDS: usize = 2;
const SECONDS: &str = "10";
/// The last one is the writers' full speed.
const RATES: [(&str, &str); 3] =
    [("100", "100/s"), ("1000", "1,000/s"), ("0", "as fast as 16 writers commit")];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "latency",
        "From the commit to a consumer",
        &format!(
            "Milliseconds; {ROUNDS} rounds of {SECONDS} s, of Debezium {DEBEZIUM_ROUNDS}; 16 writers, the relay and a consumer \
             in one process, Debezium in its own. The p99 until the event is read from the database says how much of the whole p99 is \
             the relay's; the rest is Kafka's, on the same two cores. Lost: committed, and not arrived a second after the end."
        ),
        &Bench::setting(),
        &["p50", "p99", "p99.9", "commits/s", "lost", "p99 until it is read"],
    );
    bench.part(&["fill", "0"])?;
    for (rate, called) in RATES {
        for round in 0..ROUNDS {
            let mut quantiles = [(0.0, 0.0); 2];
            for turn in 0..2 {
                let contender = (turn + round) % 2;
                let (part, name) =
                    [("latency-bare", "bare loop"), ("latency-outbox", "outbox")][contender];
                let printed = bench.part(&[part, rate, SECONDS])?;
                quantiles[contender] = (printed.number("p50")?, printed.number("p99")?);
                let [p50, p99, p999, rate, lost] = cells(&printed)?;
                let read = printed.number("read_p99")?;
                figure.push(&format!("{called}: {name}"), &[p50, p99, p999, rate, lost, read]);
            }
            let [bare, ours] = quantiles;
            if rate != "0" {
                let what = |which| format!("latency {which} at {called}: outbox / bare loop");
                figure.ratio(&what("p50"), ours.0 / bare.0, AT_MOST(1.3));
                figure.ratio(&what("p99"), ours.1 / bare.1, AT_MOST(1.3));
            }
        }
    }
    bench.part(&["debezium-prepare", "debezium"])?;
    let connect = bench.connect("orders", "debezium", true)?;
    // It has started when its first event arrives.
    let ours = bench.part(&["wait", "orders", "0"])?.number("from")? as u64;
    bench.part(&["debezium-fill", "1"])?;
    bench.part(&["wait", "orders", &(ours + 1).to_string()])?;
    for (rate, called) in RATES {
        for _ in 0..DEBEZIUM_ROUNDS {
            let printed = bench.part(&["latency-debezium", rate, SECONDS])?;
            let [p50, p99, p999, rate, lost] = cells(&printed)?;
            figure.push(
                &format!("{called}: Debezium tuned"),
                &[p50, p99, p999, rate, lost, f64::NAN],
            );
        }
    }
    drop(connect);
    Ok(vec![figure])
}

fn cells(printed: &Printed) -> Result<[f64; 5], Error> {
    Ok([
        printed.number("p50")?,
        printed.number("p99")?,
        printed.number("p999")?,
        printed.number("rate")?,
        printed.number("lost")?,
    ])
}

pub(super) fn measure_disturbed(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "disturbances",
        "What one does to the others",
        &format!(
            "Milliseconds from the commit to a consumer at 500 events/s; {DISTURBED_ROUNDS} rounds of {SECONDS} s, each with and without. \
             The transaction stays open with an uncommitted event. The snapshot is older than all that the relay saves, and \
             72,000 saves of each lane were made since. The slow topic takes nothing (it wants two copies on one \
             broker), and gets 10 events/s; the events of its lane, one of 16, wait with it and are not counted. The poison key \
             has 10 events/s that are too large for their topic. Reclaiming truncates a leaf of the ring each second, one \
             that has just been published: as at a million events/s, several times what this machine can drain."
        ),
        &Bench::setting(),
        &["p99", "p50", "p99.9", "commits/s", "lost", "p99 of the business transaction itself"],
    );
    for _ in 0..DISTURBED_ROUNDS {
        let mut alone = (f64::NAN, f64::NAN);
        for (what, name) in [
            ("none", "undisturbed"),
            ("open-transaction", "a transaction held open"),
            ("held-snapshot", "a snapshot held open, after an hour's worth of saves"),
            ("slow-topic", "a topic that takes nothing"),
            ("poison-key", "a poison key"),
            ("reclaiming", "reclaiming"),
        ] {
            bench.part(&["fill-outbox", "0"])?;
            let printed = bench.part(&["latency-outbox", "500", SECONDS, what])?;
            let [p50, p99, p999, rate, lost] = cells(&printed)?;
            let write = printed.number("write_p99")?;
            figure.push(name, &[p99, p50, p999, rate, lost, write]);
            if what == "none" {
                alone = (p99, write);
            } else {
                let ratio = format!("p99 of the others with {name} / undisturbed");
                figure.ratio(&ratio, p99 / alone.0, AT_MOST(1.3));
            }
            if what == "reclaiming" {
                let ratio = "p99 of a business transaction with reclaiming / undisturbed";
                figure.ratio(ratio, write / alone.1, AT_MOST(1.3));
            }
        }
    }
    Ok(vec![figure])
}
