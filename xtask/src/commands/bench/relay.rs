//! `cargo xtask bench relay`: how fast the relay is, next to a producer alone and to the loop that one writes by hand.
//!
//! The contenders take turns on one Postgres and one Kafka, each in a process of its own; what is printed are medians of
//! the turns, and of the ratios within a turn. The results go to `benches/results`.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::measure::{Samples, cpu_seconds_of};
use super::{cargo, machine};
use crate::paths::{create_dir_all, workspace_root};
use crate::process::run as run_command;
use crate::servers::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres};
use crate::{Error, ScratchDir, procfs};

const EVENTS: u64 = 2_000_000;
const ROUNDS: usize = 5;
const LATENCY_ROUNDS: usize = 5;
const LATENCY_SECONDS: u64 = 10;
const RATES: [u64; 2] = [100, 1_000];

const DRAINS: [(&str, &str); 3] =
    [("drain-raw", "producer alone"), ("drain-bare", "bare loop"), ("drain-outbox", "outbox")];

/// What one contender did in its turns.
#[derive(Default)]
struct Drain {
    rate: Samples,
    own_cpu: Samples,
    broker_cpu: Samples,
    database_cpu: Samples,
    peak_mib: Samples,
}

#[derive(Default)]
struct Latency {
    p50: Samples,
    p99: Samples,
    p999: Samples,
    lost: Samples,
}

struct Bench {
    postgres: Postgres,
    kafka: Kafka,
}

pub(super) fn run(events: Option<u64>) -> Result<(), Error> {
    let events = events.unwrap_or(EVENTS);
    let mut build = cargo();
    build
        .args(["build", "--release", "--package", "outbox-bench", "--bin", "relay"])
        .current_dir(workspace_root());
    run_command(build, "build the benchmark `relay`")?;
    let scratch = ScratchDir::new("bench")?;
    let bench = Bench {
        postgres: Postgres::start(
            PgVersion::V15,
            &scratch.path().join("postgres"),
            PgOptions { fsync: true },
        )?,
        kafka: Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default())?,
    };
    let mut report = format!(
        "{}; Postgres 15 with fsync, Kafka 4.1 on one node with acks=all, all on this machine; events with a payload of \
         about 300 bytes.\n\n",
        machine()
    );
    bench.drains(events, &mut report)?;
    bench.latencies(&mut report)?;
    print!("{report}");
    let dir = workspace_root().join("benches/results");
    create_dir_all(&dir)?;
    let page = format!("# `cargo xtask bench relay`\n\nWritten by that command.\n\n{report}");
    fs::write(dir.join("relay.md"), page).map_err(|error| Error::io("write benches/results/relay.md", error))
}

impl Bench {
    /// Runs a part of the program, and returns what it printed.
    fn part(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(workspace_root().join("target/release/relay"));
        command
            .args(arguments)
            .env("DATABASE_URL", self.postgres.url())
            .env("KAFKA_BROKERS", self.kafka.brokers())
            .current_dir(workspace_root());
        run_command(command, "run the benchmark `relay`")
    }

    fn server_cpu(&self) -> Result<(f64, f64), Error> {
        let of = |traces: Option<crate::servers::Traces>| {
            traces.map_or(Ok(f64::NAN), |traces| procfs::cpu_seconds_of_tree(traces.pid))
        };
        Ok((of(self.kafka.traces())?, of(self.postgres.traces())?))
    }

    fn drains(&self, events: u64, report: &mut String) -> Result<(), Error> {
        eprintln!("filling the outbox with {events} events");
        self.part(&["fill", &events.to_string()])?;
        let millions = events as f64 / 1e6;
        let mut drains: [Drain; DRAINS.len()] = Default::default();
        // Of the bare loop's rate in the same round.
        let mut ratios = Samples::default();
        for round in 0..=ROUNDS {
            let mut rates = [0.0; DRAINS.len()];
            for turn in 0..DRAINS.len() {
                // Who goes first finds other caches than who goes last.
                let contender = (turn + round) % DRAINS.len();
                let (part, name) = DRAINS[contender];
                let (broker, database) = self.server_cpu()?;
                let mut printed = String::new();
                let own = cpu_seconds_of(|| {
                    printed = self.part(&[part, &events.to_string()])?;
                    Ok(())
                })?;
                let (broker_after, database_after) = self.server_cpu()?;
                let rate = events as f64 / field(&printed, "seconds")?;
                eprintln!("round {round} {name}: {rate:.0} events/s");
                rates[contender] = rate;
                // The first round warms up.
                if round > 0 {
                    let drain = &mut drains[contender];
                    drain.rate.push(rate);
                    drain.own_cpu.push(own / millions);
                    drain.broker_cpu.push((broker_after - broker) / millions);
                    drain.database_cpu.push((database_after - database) / millions);
                    drain.peak_mib.push(field(&printed, "peak_mib")?);
                }
            }
            if round > 0 {
                ratios.push(rates[2] / rates[1]);
            }
        }
        let _ = writeln!(
            report,
            "## A backlog of {events} events\n\nMedian of {ROUNDS} rounds, with the least and the most.\n\n\
             | | events/s | CPU s per million: its own | the broker's | Postgres's | peak memory, MiB |\n\
             |---|---|---|---|---|---|"
        );
        for ((_, name), drain) in DRAINS.iter().zip(&drains) {
            let (least, most) = drain.rate.spread();
            let _ = writeln!(
                report,
                "| {name} | {:.0} ({least:.0} to {most:.0}) | {:.2} | {:.2} | {:.2} | {:.0} |",
                drain.rate.median(),
                drain.own_cpu.median(),
                drain.broker_cpu.median(),
                drain.database_cpu.median(),
                drain.peak_mib.median(),
            );
        }
        let (least, most) = ratios.spread();
        let _ = writeln!(
            report,
            "\noutbox / bare loop: {:.2} ({least:.2} to {most:.2}); budget 0.85. Memory: budget 100 MiB.\n",
            ratios.median()
        );
        Ok(())
    }

    fn latencies(&self, report: &mut String) -> Result<(), Error> {
        let _ = writeln!(
            report,
            "## From the commit to a consumer\n\nMilliseconds; median of {LATENCY_ROUNDS} rounds of {LATENCY_SECONDS} s, \
             with writer, relay and consumer in one process. Lost: events that never came, per round.\n\n\
             | events/s | | p50 | p99 | p99.9 | lost |\n|---|---|---|---|---|---|"
        );
        let mut verdicts = String::new();
        self.part(&["fill", "0"])?;
        for rate in RATES {
            let mut latencies: [Latency; 2] = Default::default();
            let (mut p50_ratios, mut p99_ratios) = (Samples::default(), Samples::default());
            for round in 0..LATENCY_ROUNDS {
                let mut of_round = [(0.0, 0.0); 2];
                for turn in 0..2 {
                    let contender = (turn + round) % 2;
                    let part = ["latency-bare", "latency-outbox"][contender];
                    let printed = self.part(&[part, &rate.to_string(), &LATENCY_SECONDS.to_string()])?;
                    eprintln!("round {round} {part}: {}", printed.trim());
                    let latency = &mut latencies[contender];
                    of_round[contender] = (field(&printed, "p50")?, field(&printed, "p99")?);
                    latency.p50.push(of_round[contender].0);
                    latency.p99.push(of_round[contender].1);
                    latency.p999.push(field(&printed, "p999")?);
                    latency.lost.push(field(&printed, "lost")?);
                }
                p50_ratios.push(of_round[1].0 / of_round[0].0);
                p99_ratios.push(of_round[1].1 / of_round[0].1);
            }
            for (name, latency) in ["bare loop", "outbox"].iter().zip(&latencies) {
                let _ = writeln!(
                    report,
                    "| {rate} | {name} | {:.1} | {:.1} | {:.1} | {:.0} |",
                    latency.p50.median(),
                    latency.p99.median(),
                    latency.p999.median(),
                    latency.lost.median(),
                );
            }
            let _ = writeln!(
                verdicts,
                "\nAt {rate}/s, outbox / bare loop: p50 {:.2} ({:.2} to {:.2}), p99 {:.2} ({:.2} to {:.2}); budget 1.3.",
                p50_ratios.median(),
                p50_ratios.spread().0,
                p50_ratios.spread().1,
                p99_ratios.median(),
                p99_ratios.spread().0,
                p99_ratios.spread().1,
            );
        }
        report.push_str(&verdicts);
        Ok(())
    }
}

/// A number of the flat JSON object that a part prints.
fn field(printed: &str, name: &str) -> Result<f64, Error> {
    let missing = || Error::new(format!("the benchmark printed no `{name}`: {printed}"));
    let (_, value) = printed.split_once(&format!("\"{name}\": ")).ok_or_else(missing)?;
    let end = value.find([',', '}']).ok_or_else(missing)?;
    value[..end].trim().parse().map_err(|_| missing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_names() {
        let printed = r#"{"events": 5, "seconds": 1.25, "p99": 3}"#;
        assert!((field(printed, "seconds").unwrap() - 1.25).abs() < f64::EPSILON);
        assert!((field(printed, "p99").unwrap() - 3.0).abs() < f64::EPSILON);
        assert!(field(printed, "p50").is_err());
    }
}
