//! From the commit to a consumer.

use outbox_bench_report::{Contender, Disturbance, Latencies, Load, Part, Waited};

use super::{AT_MOST, Bench, Figure};
use crate::Error;
use crate::servers::Setup;

const ROUNDS: usize = 5;
const DISTURBED_ROUNDS: usize = 3;
const DEBEZIUM_ROUNDS: usize = 2;
const SECONDS: u64 = 10;
/// The last one is the writers' full speed.
const RATES: [(Option<u64>, &str); 3] =
    [(Some(100), "100/s"), (Some(1_000), "1,000/s"), (None, "as fast as 16 writers commit")];
const CONTENDERS: [(Contender, &str); 2] =
    [(Contender::BareLoop, "bare loop"), (Contender::Outbox, "outbox")];

const P50: &str = "p50";
const P99: &str = "p99";
const P999: &str = "p99.9";
const RATE: &str = "commits/s";
const LOST: &str = "lost";
const READ: &str = "p99 until it is read";
/// Those of a figure.
pub(super) const COLUMNS: [&str; 6] = [P50, P99, P999, RATE, LOST, READ];
pub(super) const DRAWN: [&str; 3] = [P50, P99, P999];
const WRITE: &str = "p99 of the business transaction itself";

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
        &COLUMNS,
    );
    figure.draws(&DRAWN, "ms");
    bench.run::<()>(&Part::Fill { events: 0 })?;
    for (rate, called) in RATES {
        for round in 0..ROUNDS {
            measure_round(bench, &mut figure, rate, called, round)?;
        }
    }
    measure_debezium(bench, &mut figure)?;
    Ok(vec![figure])
}

/// One turn of each contender.
fn measure_round(
    bench: &Bench,
    figure: &mut Figure,
    rate: Option<u64>,
    called: &str,
    round: usize,
) -> Result<(), Error> {
    let mut measured = [None; CONTENDERS.len()];
    for turn in 0..CONTENDERS.len() {
        let place = (turn + round) % CONTENDERS.len();
        let (contender, name) = CONTENDERS[place];
        let latencies = timed(bench, contender, rate)?;
        push(figure, &format!("{called}: {name}"), &latencies);
        measured[place] = Some(latencies);
    }
    if let ([Some(bare), Some(ours)], Some(_)) = (measured, rate) {
        let what = |which| format!("latency {which} at {called}: outbox / bare loop");
        figure.ratio(&what(P50), ours.p50 / bare.p50, AT_MOST(1.3));
        figure.ratio(&what(P99), ours.p99 / bare.p99, AT_MOST(1.3));
    }
    Ok(())
}

fn measure_debezium(bench: &Bench, figure: &mut Figure) -> Result<(), Error> {
    let topic = || "orders".to_owned();
    bench.run::<()>(&Part::PrepareDebezium { slot: "debezium".to_owned() })?;
    let connect = bench.connect("orders", "debezium", Setup::Tuned)?;
    // It has started when its first event arrives.
    let before: Waited = bench.run(&Part::Wait { topic: topic(), until: 0 })?;
    bench.run::<()>(&Part::FillDebezium { events: 1 })?;
    bench.run::<Waited>(&Part::Wait { topic: topic(), until: before.from + 1 })?;
    for (rate, called) in RATES {
        for _ in 0..DEBEZIUM_ROUNDS {
            let latencies = timed(bench, Contender::Debezium, rate)?;
            push(figure, &format!("{called}: Debezium tuned"), &latencies);
        }
    }
    drop(connect);
    Ok(())
}

fn timed(bench: &Bench, contender: Contender, rate: Option<u64>) -> Result<Latencies, Error> {
    let load = Load { rate, seconds: SECONDS };
    bench.run(&Part::Latency { contender, load, disturbance: None })
}

pub(super) fn push(figure: &mut Figure, row: &str, latencies: &Latencies) {
    let Latencies { p50, p99, p999, rate, lost, read_p99, .. } = *latencies;
    let samples = [(P50, p50), (P99, p99), (P999, p999), (RATE, rate), (LOST, lost as f64)];
    figure.push(row, &samples);
    if let Some(read) = read_p99 {
        figure.push(row, &[(READ, read)]);
    }
}

const DISTURBANCES: [(Option<Disturbance>, &str); 6] = [
    (None, "undisturbed"),
    (Some(Disturbance::OpenTransaction), "a transaction held open"),
    (Some(Disturbance::HeldSnapshot), "a snapshot held open, after an hour's worth of saves"),
    (Some(Disturbance::StalledTopic), "a topic that takes nothing"),
    (Some(Disturbance::PoisonKey), "a poison key"),
    (Some(Disturbance::Reclaiming), "reclaiming"),
];

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
        &[P99, P50, P999, RATE, LOST, WRITE],
    );
    figure.draws(&DRAWN, "ms");
    for _ in 0..DISTURBED_ROUNDS {
        let mut undisturbed = None;
        for (disturbance, name) in DISTURBANCES {
            bench.run::<()>(&Part::FillOutbox { events: 0 })?;
            let load = Load { rate: Some(500), seconds: SECONDS };
            let part = Part::Latency { contender: Contender::Outbox, load, disturbance };
            let latencies: Latencies = bench.run(&part)?;
            let Latencies { p50, p99, p999, rate, lost, write_p99, .. } = latencies;
            let lost = lost as f64;
            let samples = [
                (P99, p99),
                (P50, p50),
                (P999, p999),
                (RATE, rate),
                (LOST, lost),
                (WRITE, write_p99),
            ];
            figure.push(name, &samples);
            let alone = *undisturbed.get_or_insert(latencies);
            if disturbance.is_some() {
                let ratio = format!("p99 of the others with {name} / undisturbed");
                figure.ratio(&ratio, p99 / alone.p99, AT_MOST(1.3));
            }
            if disturbance == Some(Disturbance::Reclaiming) {
                let ratio = "p99 of a business transaction with reclaiming / undisturbed";
                figure.ratio(ratio, write_p99 / alone.write_p99, AT_MOST(1.3));
            }
        }
    }
    Ok(vec![figure])
}
