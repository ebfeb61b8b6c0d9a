//! A backlog, as fast as can be.

use outbox_bench_report::{Contender, Drained, Part, Waited};

use super::super::cargo;
use super::{AT_LEAST, AT_MOST, Bench, Cpu, Figure, PROGRAM};
use crate::Error;
use crate::paths::workspace_root;
use crate::process::run;
use crate::servers::Setup;

const EVENTS: u64 = 2_000_000;
/// Of Debezium, whose rate does not change with it, so that it takes no hour.
const DEBEZIUM_EVENTS: u64 = 500_000;
/// Of the other outbox for Rust, for the same reason.
const PEER_EVENTS: u64 = 20_000;
const PEER: &str = "target/peer/release/outbox-bench-peer";
const ROUNDS: usize = 4;
const OTHERS_ROUNDS: usize = 2;
const CONTENDERS: [(Contender, &str); 3] = [
    (Contender::ProducerAlone, "producer alone"),
    (Contender::BareLoop, "bare loop"),
    (Contender::Outbox, OUTBOX),
];
const OUTBOX: &str = "outbox";

pub(super) const RATE: &str = "events/s";
pub(super) const OWN_CPU: &str = "its own CPU s";
pub(super) const BROKER_CPU: &str = "the broker's";
pub(super) const DATABASE_CPU: &str = "the database's";
pub(super) const MEMORY: &str = "peak memory, MiB";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "drain",
        "Draining a backlog",
        &format!(
            "{EVENTS} events in {ROUNDS} rounds, and {DEBEZIUM_EVENTS} in {OTHERS_ROUNDS} of Debezium, whose clock runs from its first event on \
             the topic, without the start of its JVM, and {PEER_EVENTS} of outbox-core 0.6.0, which waits for each event before it sends the next. CPU seconds are per million events. The bare loop is what one writes by \
             hand: it loses events that commit late, and cannot run twice."
        ),
        &Bench::setting(),
        &[RATE, OWN_CPU, BROKER_CPU, DATABASE_CPU, MEMORY],
    );
    for (_, name) in CONTENDERS {
        figure.row(name);
    }
    bench.run::<()>(&Part::Fill { events: EVENTS })?;
    // The first round warms up.
    measure_round(bench, None, 0)?;
    for round in 1..=ROUNDS {
        measure_round(bench, Some(&mut figure), round)?;
    }
    measure_peer(bench, &mut figure)?;
    measure_debezium(bench, &mut figure)?;
    Ok(vec![figure])
}

/// One turn of each contender, noted in the figure if there is one.
fn measure_round(bench: &Bench, figure: Option<&mut Figure>, round: usize) -> Result<(), Error> {
    let mut turns = Vec::new();
    let mut rates = [0.0; CONTENDERS.len()];
    for turn in 0..CONTENDERS.len() {
        // The order rotates, since the first one finds other caches than the last.
        let place = (turn + round) % CONTENDERS.len();
        let (contender, name) = CONTENDERS[place];
        let part = Part::Drain { contender, events: EVENTS };
        let (drained, cpu) = bench.run_timed::<Drained>(PROGRAM, &part)?;
        rates[place] = EVENTS as f64 / drained.seconds;
        turns.push((name, drained, cpu));
    }
    if let Some(figure) = figure {
        for (name, drained, cpu) in turns {
            push(figure, name, EVENTS, &drained, cpu);
        }
        let [_, bare_loop, ours] = rates;
        figure.ratio("draining: outbox / bare loop", ours / bare_loop, AT_LEAST(0.85));
    }
    Ok(())
}

pub(super) fn push(figure: &mut Figure, row: &str, events: u64, drained: &Drained, cpu: Cpu) {
    let cpu = cpu.per_million(events as f64);
    figure.push(
        row,
        &[
            (RATE, events as f64 / drained.seconds),
            (OWN_CPU, cpu.own),
            (BROKER_CPU, cpu.broker),
            (DATABASE_CPU, cpu.database),
            (MEMORY, drained.peak_mib),
        ],
    );
}

fn measure_peer(bench: &Bench, figure: &mut Figure) -> Result<(), Error> {
    build_peer()?;
    for _ in 0..OTHERS_ROUNDS {
        bench.run_program::<()>(PEER, &Part::Fill { events: PEER_EVENTS })?;
        let part = Part::Drain { contender: Contender::Peer, events: PEER_EVENTS };
        let (drained, cpu) = bench.run_timed::<Drained>(PEER, &part)?;
        push(figure, "outbox-core", PEER_EVENTS, &drained, cpu);
    }
    Ok(())
}

fn measure_debezium(bench: &Bench, figure: &mut Figure) -> Result<(), Error> {
    let ours = figure.row(OUTBOX);
    let (our_rate, our_cpu) = (ours.samples(RATE).median(), ours.samples(OWN_CPU).median());
    for round in 0..OTHERS_ROUNDS {
        for (setup, name) in
            [(Setup::Shipped, "Debezium as shipped"), (Setup::Tuned, "Debezium tuned")]
        {
            let Measured { events, drained, cpu } = drain_by_debezium(bench, setup, round)?;
            push(figure, name, events, &drained, cpu);
            if setup == Setup::Tuned {
                let rate = our_rate / (events as f64 / drained.seconds);
                figure.ratio("draining: outbox / Debezium tuned", rate, AT_LEAST(4.0));
                let cpu = our_cpu / cpu.per_million(events as f64).own;
                figure.ratio("CPU of an event: outbox / Debezium tuned", cpu, AT_MOST(0.2));
            }
        }
    }
    Ok(())
}

pub(super) struct Measured {
    /// How many of the events came while it was timed.
    pub(super) events: u64,
    pub(super) drained: Drained,
    pub(super) cpu: Cpu,
}

pub(super) fn drain_by_debezium(
    bench: &Bench,
    setup: Setup,
    round: usize,
) -> Result<Measured, Error> {
    let topic = &*format!("debezium-{}-{round}", setup.name());
    bench.run::<()>(&Part::PrepareDebezium { slot: "debezium".to_owned() })?;
    bench.run::<()>(&Part::FillDebezium { events: DEBEZIUM_EVENTS })?;
    let connect = bench.connect(topic, "debezium", setup)?;
    let wait = |until| Part::Wait { topic: topic.to_owned(), until };
    bench.run::<Waited>(&wait(1))?;
    let cpu = || Ok::<_, Error>(Cpu { own: connect.cpu_seconds()?, ..bench.cpu()? });
    let before = cpu()?;
    let waited: Waited = bench.run(&wait(DEBEZIUM_EVENTS))?;
    let cpu = cpu()? - before;
    let peak_mib = connect.peak_mib();
    let drained = Drained { seconds: waited.seconds, peak_mib, tenths: None };
    Ok(Measured { events: DEBEZIUM_EVENTS - waited.from, drained, cpu })
}

/// A workspace of its own, see its Cargo.toml.
fn build_peer() -> Result<(), Error> {
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--manifest-path", "benches/peer/Cargo.toml"])
        .args(["--target-dir", "target/peer"])
        .current_dir(workspace_root());
    run(build, "build the benchmark `peer`").map(drop)
}
