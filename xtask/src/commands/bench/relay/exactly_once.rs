//! Delivery exactly once, next to delivery at least once.

use outbox_bench_report::{Contender, Drained, Latencies, Load, Part, Waves};

use super::drain::{
    BROKER_CPU, DATABASE_CPU, MEMORY, Measured, OWN_CPU, RATE, drain_by_debezium, push,
};
use super::{AT_LEAST, AT_MOST, Bench, Figure, PROGRAM};
use crate::Error;
use crate::servers::Setup;

const EVENTS: u64 = 1_000_000;
const ROUNDS: usize = 3;
const DEBEZIUM_ROUNDS: usize = 2;
const SECONDS: u64 = 10;
const CONTENDERS: [(Contender, &str); 2] = [
    (Contender::Outbox, "outbox, at least once"),
    (Contender::ExactlyOnce, "outbox, exactly once"),
];
const RATES: [(u64, &str); 2] = [(100, "100/s"), (1_000, "1,000/s")];

const P50: &str = "p50";
const P99: &str = "p99";
const P999: &str = "p99.9";
const LOST: &str = "lost";
const TRANSACTIONS: &str = "transactions/s";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut draining = Figure::new(
        "exactly-once-drain",
        "Draining a backlog exactly once",
        &format!(
            "{EVENTS} events, {ROUNDS} rounds, by one relay with two groups of lanes; 500,000 in {DEBEZIUM_ROUNDS} rounds by Debezium \
             tuned, under Connect's distributed mode with `exactly.once.support=required`. CPU seconds are per million events."
        ),
        &Bench::setting(),
        &[RATE, OWN_CPU, BROKER_CPU, DATABASE_CPU, MEMORY],
    );
    bench.run::<()>(&Part::FillOutbox { events: EVENTS })?;
    // The first round warms up.
    for round in 0..=ROUNDS {
        measure_drain(bench, (round > 0).then_some(&mut draining), round)?;
    }
    measure_debezium(bench, &mut draining)?;
    let mut latency = Figure::new(
        "exactly-once-latency",
        "From the commit to a consumer of committed records",
        &format!(
            "Milliseconds; {ROUNDS} rounds of {SECONDS} s; 16 writers, the relay with two groups of lanes and a consumer in one \
             process."
        ),
        &Bench::setting(),
        &[P50, P99, P999, LOST, TRANSACTIONS],
    );
    latency.draws(&[P50, P99, P999], "ms");
    bench.run::<()>(&Part::FillOutbox { events: 0 })?;
    for (rate, called) in RATES {
        for round in 0..ROUNDS {
            measure_latency(bench, &mut latency, (rate, called), round)?;
        }
    }
    Ok(vec![draining, latency])
}

/// One turn of each, noted in the figure if there is one.
fn measure_drain(bench: &Bench, figure: Option<&mut Figure>, round: usize) -> Result<(), Error> {
    let mut rates = [0.0; CONTENDERS.len()];
    let mut turns = Vec::new();
    for turn in 0..CONTENDERS.len() {
        let place = (turn + round) % CONTENDERS.len();
        let (contender, name) = CONTENDERS[place];
        let part = Part::Drain { contender, events: EVENTS };
        let (drained, cpu) = bench.run_timed::<Drained>(PROGRAM, &part)?;
        rates[place] = EVENTS as f64 / drained.seconds;
        turns.push((name, drained, cpu));
    }
    let Some(figure) = figure else { return Ok(()) };
    for (name, drained, cpu) in turns {
        push(figure, name, EVENTS, &drained, cpu);
    }
    let [at_least_once, exactly_once] = rates;
    let ratio = exactly_once / at_least_once;
    figure.ratio("draining: exactly once / at least once", ratio, AT_LEAST(0.6));
    Ok(())
}

fn measure_debezium(bench: &Bench, figure: &mut Figure) -> Result<(), Error> {
    let (_, ours) = CONTENDERS[1];
    let our_rate = figure.row(ours).samples(RATE).median();
    for round in 0..DEBEZIUM_ROUNDS {
        let Measured { events, drained, cpu } =
            drain_by_debezium(bench, Setup::ExactlyOnce, round)?;
        push(figure, "Debezium exactly once", events, &drained, cpu);
        let ratio = our_rate / (events as f64 / drained.seconds);
        figure.ratio("draining exactly once: outbox / Debezium", ratio, AT_LEAST(3.0));
    }
    Ok(())
}

fn measure_latency(
    bench: &Bench,
    figure: &mut Figure,
    (rate, called): (u64, &str),
    round: usize,
) -> Result<(), Error> {
    for turn in 0..CONTENDERS.len() {
        let (contender, name) = CONTENDERS[(turn + round) % CONTENDERS.len()];
        let load = Load { rate: Some(rate), seconds: SECONDS };
        let part = Part::Latency { contender, load, disturbance: None };
        let Latencies { p50, p99, p999, lost, .. } = bench.run(&part)?;
        let row = format!("{called}: {name}");
        figure.push(&row, &[(P50, p50), (P99, p99), (P999, p999), (LOST, lost as f64)]);
        if contender == Contender::ExactlyOnce {
            let waves: Waves = bench.run(&Part::Waves)?;
            let transactions = waves.committed as f64 / SECONDS as f64;
            figure.push(&row, &[(TRANSACTIONS, transactions)]);
            let what = |which: &str| format!("exactly once, {which} at {called}");
            figure.ratio(&what("ms p50"), p50, AT_MOST(30.0));
            figure.ratio(&what("transactions/s"), transactions, AT_MOST(200.0));
        }
    }
    Ok(())
}
