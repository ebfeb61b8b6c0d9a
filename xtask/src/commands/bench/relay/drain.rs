//! A backlog, as fast as can be.

use super::super::cargo;
use super::{AT_LEAST, AT_MOST, Bench, Figure};
use crate::Error;
use crate::paths::workspace_root;
use crate::process::run;

const EVENTS: u64 = 2_000_000;
/// Of Debezium, whose rate does not change with it, so that it takes no hour.
const DEBEZIUM_EVENTS: u64 = 500_000;
/// Of the other outbox for Rust, for the same reason.
const PEER_EVENTS: u64 = 20_000;
const PEER: &str = "target/peer/release/outbox-bench-peer";
const ROUNDS: usize = 4;
const OTHERS_ROUNDS: usize = 2;
const SCALE_ROUNDS: usize = 2;
const CONTENDERS: [(&str, &str); 3] =
    [("drain-raw", "producer alone"), ("drain-bare", "bare loop"), ("drain-outbox", "outbox")];
const RELAYS: [u64; 3] = [1, 2, 4];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let (events, debezium_events) = (EVENTS.to_string(), DEBEZIUM_EVENTS.to_string());
    let millions = EVENTS as f64 / 1e6;
    let mut figure = Figure::new(
        "drain",
        "Draining a backlog",
        &format!(
            "{events} events in {ROUNDS} rounds, and {DEBEZIUM_EVENTS} in {OTHERS_ROUNDS} of Debezium, whose clock runs from its first event on \
             the topic, without the start of its JVM, and {PEER_EVENTS} of outbox-core 0.6.0, which waits for each event before it sends the next. CPU seconds are per million events. The bare loop is what one writes by \
             hand: it loses events that commit late, and cannot run twice."
        ),
        &Bench::setting(),
        &["events/s", "its own CPU s", "the broker's", "Postgres's", "peak memory, MiB"],
    );
    let mut scale = Figure::new(
        "scale-out",
        "Several relays on one backlog",
        &format!(
            "{events} events, {SCALE_ROUNDS} rounds, from the start of the processes to the last event on the topic; all of it on the same \
             two cores as the servers.",
        ),
        &Bench::setting(),
        &["events/s", "peak memory of one, MiB", "published again"],
    );
    for (_, name) in CONTENDERS {
        figure.row(name);
    }
    bench.part(&["fill", &events])?;
    for round in 0..=ROUNDS {
        let mut rates = [0.0; CONTENDERS.len()];
        for turn in 0..CONTENDERS.len() {
            // The order rotates, since the first one finds other caches than the last.
            let contender = (turn + round) % CONTENDERS.len();
            let (part, name) = CONTENDERS[contender];
            let (printed, [own, broker, database]) = bench.timed_part(&[part, &events])?;
            rates[contender] = EVENTS as f64 / printed.number("seconds")?;
            // The first round warms up.
            if round > 0 {
                let peak = printed.number("peak_mib")?;
                let cpu = [own, broker, database].map(|seconds| seconds / millions);
                figure.push(name, &[rates[contender], cpu[0], cpu[1], cpu[2], peak]);
            }
        }
        if round > 0 {
            figure.ratio("draining: outbox / bare loop", rates[2] / rates[1], AT_LEAST(0.85));
        }
    }
    build_peer()?;
    let peer_events = PEER_EVENTS.to_string();
    for _ in 0..OTHERS_ROUNDS {
        bench.program(PEER, &["fill", &peer_events])?;
        let (printed, cpu) = bench.timed(|| bench.program(PEER, &["drain", &peer_events]))?;
        let [own, broker, database] = cpu.map(|seconds| seconds * 1e6 / PEER_EVENTS as f64);
        let rate = PEER_EVENTS as f64 / printed.number("seconds")?;
        figure.push("outbox-core", &[rate, own, broker, database, printed.number("peak_mib")?]);
    }
    for _ in 0..SCALE_ROUNDS {
        for relays in RELAYS {
            let printed = bench.part(&["scale-out", &relays.to_string(), &events])?;
            let name = if relays == 1 { "1 relay".to_owned() } else { format!("{relays} relays") };
            let rate = EVENTS as f64 / printed.number("seconds")?;
            scale.push(&name, &[rate, printed.number("peak_mib")?, printed.number("again")?]);
            if relays == 1 {
                scale.ratio(
                    "memory of a single relay, MiB",
                    printed.number("peak_mib")?,
                    AT_MOST(100.0),
                );
            }
        }
    }
    let ours = (figure.row("outbox")[0].median(), figure.row("outbox")[1].median());
    for round in 0..OTHERS_ROUNDS {
        for (tuned, name) in [(false, "Debezium as shipped"), (true, "Debezium tuned")] {
            let topic = format!("debezium-{}-{round}", if tuned { "tuned" } else { "shipped" });
            bench.part(&["debezium-prepare", "debezium"])?;
            bench.part(&["debezium-fill", &debezium_events])?;
            let connect = bench.connect(&topic, "debezium", tuned)?;
            bench.part(&["wait", &topic, "1"])?;
            let (servers, own) = (bench.server_cpu()?, connect.cpu_seconds()?);
            let printed = bench.part(&["wait", &topic, &debezium_events])?;
            let (servers_after, own_after) = (bench.server_cpu()?, connect.cpu_seconds()?);
            let counted = DEBEZIUM_EVENTS as f64 - printed.number("from")?;
            let rate = counted / printed.number("seconds")?;
            let own = (own_after - own) * 1e6 / counted;
            let of_servers = [0, 1].map(|n| (servers_after[n] - servers[n]) * 1e6 / counted);
            figure.push(name, &[rate, own, of_servers[0], of_servers[1], connect.peak_mib()]);
            if tuned {
                figure.ratio("draining: outbox / Debezium tuned", ours.0 / rate, AT_LEAST(4.0));
                figure.ratio(
                    "CPU of an event: outbox / Debezium tuned",
                    ours.1 / own,
                    AT_MOST(0.2),
                );
            }
        }
    }
    Ok(vec![figure, scale])
}

/// A package by itself, see its Cargo.toml.
fn build_peer() -> Result<(), Error> {
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--manifest-path", "benches/peer/Cargo.toml"])
        .args(["--target-dir", "target/peer"])
        .current_dir(workspace_root());
    run(build, "build the benchmark `peer`").map(drop)
}
