//! `cargo xtask bench relay`: how fast the relay is, next to a producer alone, to the loop that one
//! writes by hand, and to Debezium.
//!
//! The contenders take turns on one Postgres and one Kafka, each in a process of its own; what is
//! kept are medians of the turns, and of the ratios within a turn. The results go to
//! `benches/results` and the README.

mod consume;
mod drain;
mod growth;
mod latency;
mod writers;

use std::cell::Cell;
use std::process::Command;

use super::figure::{Budget, Figure};
use super::measure::cpu_seconds_of;
use super::{cargo, machine};
use crate::paths::workspace_root;
use crate::process::run as run_command;
use crate::servers::{
    Connect, ConnectOptions, DEBEZIUM, Kafka, KafkaOptions, PgOptions, PgVersion, Postgres, Traces,
    fetch_all,
};
use crate::tools::Tool;
use crate::{Error, ScratchDir, procfs};

type Measure = fn(&Bench) -> Result<Vec<Figure>, Error>;

pub(super) const FIGURES: [(&str, Measure); 6] = [
    ("drain", drain::measure),
    ("growth", growth::measure),
    ("latency", latency::measure),
    ("disturbances", latency::measure_disturbed),
    ("writers", writers::measure),
    ("consumers", consume::measure),
];

/// The servers, and the program that is measured on them.
pub(super) struct Bench {
    scratch: ScratchDir,
    postgres: Postgres,
    kafka: Kafka,
    connects: Cell<u32>,
}

/// Measures the figures named, or all.
pub(super) fn run(names: &[String]) -> Result<(), Error> {
    fetch_all(&[PgVersion::V15], &[Tool::Java])?;
    let mut build = cargo();
    build
        .args(["build", "--release", "--package", "outbox-bench", "--bin", "relay"])
        .current_dir(workspace_root());
    run_command(build, "build the benchmark `relay`")?;
    for (name, measure) in FIGURES {
        if names.is_empty() || names.iter().any(|asked| asked == name) {
            // Each on servers of its own: what one leaves on their disks is not the next one's
            // burden.
            let bench = Bench::start()?;
            for figure in measure(&bench)? {
                figure.publish()?;
            }
        }
    }
    Ok(())
}

impl Bench {
    fn start() -> Result<Self, Error> {
        let scratch = ScratchDir::new("bench")?;
        let options = PgOptions { fsync: true, logical: true, ..PgOptions::default() };
        let postgres = Postgres::start(PgVersion::V15, &scratch.path().join("postgres"), options)?;
        let kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default())?;
        Ok(Self { scratch, postgres, kafka, connects: Cell::new(0) })
    }

    fn setting() -> String {
        format!(
            "{}; Postgres 15 with fsync and wal_level=logical, Kafka 4.1 on one node with acks=all, Debezium {DEBEZIUM}, all \
             on this machine; events with a payload of about 300 bytes.",
            machine()
        )
    }

    /// Runs a part of the program, and returns what it printed.
    fn part(&self, arguments: &[&str]) -> Result<Printed, Error> {
        self.program("target/release/relay", arguments)
    }

    fn program(&self, program: &str, arguments: &[&str]) -> Result<Printed, Error> {
        let mut command = Command::new(workspace_root().join(program));
        command
            .args(arguments)
            .env("DATABASE_URL", self.postgres.url())
            .env("KAFKA_BROKERS", self.kafka.brokers())
            .current_dir(workspace_root());
        let printed = run_command(command, "be measured")?;
        eprintln!("{}: {}", arguments.join(" "), printed.trim());
        serde_json::from_str(&printed).map(Printed).map_err(|error| {
            Error::new(format!("the benchmark printed no JSON: {error}: {printed}"))
        })
    }

    /// The same, with the processor seconds of the program, of Kafka and of Postgres.
    fn timed_part(&self, arguments: &[&str]) -> Result<(Printed, [f64; 3]), Error> {
        self.timed(|| self.part(arguments))
    }

    fn timed(
        &self,
        part: impl FnOnce() -> Result<Printed, Error>,
    ) -> Result<(Printed, [f64; 3]), Error> {
        let before = self.server_cpu()?;
        let mut printed = None;
        let own = cpu_seconds_of(|| {
            printed = Some(part()?);
            Ok(())
        })?;
        let after = self.server_cpu()?;
        let printed = printed.ok_or_else(|| Error::new("the benchmark printed nothing"))?;
        Ok((printed, [own, after[0] - before[0], after[1] - before[1]]))
    }

    /// Kafka's and Postgres's.
    fn server_cpu(&self) -> Result<[f64; 2], Error> {
        let of = |traces: Option<Traces>| {
            traces.map_or(Ok(f64::NAN), |traces| procfs::cpu_seconds_of_tree(traces.pid))
        };
        Ok([of(self.kafka.traces())?, of(self.postgres.traces())?])
    }

    /// A Connect that writes to `topic` what `slot` has.
    fn connect(&self, topic: &str, slot: &str, tuned: bool) -> Result<Connect, Error> {
        self.connects.set(self.connects.get() + 1);
        let dir = self.scratch.path().join(format!("connect-{}", self.connects.get()));
        let options = ConnectOptions {
            brokers: self.kafka.brokers(),
            database_port: self.postgres.port(),
            topic,
            slot,
            tuned,
        };
        Connect::start(&dir, &options)
    }
}

/// The JSON object that a part printed.
struct Printed(serde_json::Value);

impl Printed {
    fn number(&self, name: &str) -> Result<f64, Error> {
        self.0[name]
            .as_f64()
            .ok_or_else(|| Error::new(format!("the benchmark printed no `{name}`: {}", self.0)))
    }
}

const AT_LEAST: fn(f64) -> Option<Budget> = |least| Some(Budget::AtLeast(least));
const AT_MOST: fn(f64) -> Option<Budget> = |most| Some(Budget::AtMost(most));
