//! `cargo xtask bench relay`: how fast the relay is, next to a producer alone, to the loop that one
//! writes by hand, and to Debezium.
//!
//! The contenders take turns on one database and one Kafka, each in a process of its own; what is
//! kept are medians of the turns, and of the ratios within a turn. The results go to
//! `benches/results` and the README.

mod consume;
mod database;
mod drain;
mod exactly_once;
mod growth;
mod inbox;
mod latency;
mod letters;
mod mysql;
mod scale_out;
mod spread;
mod traces;
mod writers;

use std::cell::Cell;
use std::ops::Sub;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use outbox_bench_report::Part;
use serde::de::DeserializeOwned;

use super::figure::{Budget, Figure};
use super::{cargo, machine};
use crate::paths::workspace_root;
use crate::process::run as run_command;
use crate::servers::{
    Connect, ConnectOptions, DEBEZIUM, Kafka, KafkaOptions, MySqlServer, PgVersion, Setup, Traces,
    fetch_all,
};
use crate::tools::Tool;
use crate::{Error, ScratchDir, procfs};
use database::{BinaryLog, Database};

/// What can be measured alone. The names are those of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::commands) enum Measured {
    Drain,
    Growth,
    Topics,
    Keys,
    Latency,
    Disturbances,
    Writers,
    ScaleOut,
    Consumers,
    Inbox,
    Letters,
    Traces,
    ExactlyOnce,
    MysqlDrain,
    MysqlGrowth,
    MysqlWriters,
    MysqlLatency,
}

impl Measured {
    /// On servers of its own: what one leaves on their disks is not the next one's burden.
    fn measure(self, backlog: Option<u64>) -> Result<Vec<Figure>, Error> {
        match self {
            Self::MysqlDrain => mysql::drain(backlog),
            Self::MysqlGrowth => mysql::growth(backlog),
            Self::MysqlWriters => mysql::writers(),
            Self::MysqlLatency => mysql::latency(),
            _ => self.measure_on_postgres(&Bench::start()?),
        }
    }

    fn is_of_mysql(self) -> bool {
        matches!(
            self,
            Self::MysqlDrain | Self::MysqlGrowth | Self::MysqlWriters | Self::MysqlLatency
        )
    }

    fn measure_on_postgres(self, bench: &Bench) -> Result<Vec<Figure>, Error> {
        match self {
            Self::Drain => drain::measure(bench),
            Self::Growth => growth::measure(bench),
            Self::Topics => spread::topics(bench),
            Self::Keys => spread::keys(bench),
            Self::ScaleOut => scale_out::measure(bench),
            Self::Inbox => inbox::measure(bench),
            Self::Latency => latency::measure(bench),
            Self::Disturbances => latency::measure_disturbed(bench),
            Self::Writers => writers::measure(bench),
            Self::Consumers => consume::measure(bench),
            Self::Letters => letters::measure(bench),
            Self::Traces => traces::measure(bench),
            Self::ExactlyOnce => exactly_once::measure(bench),
            Self::MysqlDrain | Self::MysqlGrowth | Self::MysqlWriters | Self::MysqlLatency => {
                Err(Error::new("it is not measured on Postgres"))
            }
        }
    }
}

/// What is measured, apart from another outbox for Rust.
const PROGRAM: &str = "target/release/relay";

/// The servers, and the program that is measured on them.
pub(super) struct Bench {
    scratch: ScratchDir,
    database: Database,
    kafka: Kafka,
    connects: Cell<u32>,
}

/// Measures the figures asked for, or all. `backlog`: how many events are drained from MySQL.
pub(super) fn run(asked: &[Measured], backlog: Option<u64>) -> Result<(), Error> {
    let is_asked = |measured: &&Measured| asked.is_empty() || asked.contains(measured);
    let measured: Vec<_> = Measured::value_variants().iter().filter(is_asked).collect();
    let on_mysql = measured.iter().filter(|measured| measured.is_of_mysql()).count();
    let postgres: &[_] = if on_mysql < measured.len() { &[PgVersion::V15] } else { &[] };
    let mysql: &[_] = if on_mysql > 0 { &mysql::SERVERS } else { &[] };
    fetch_all(postgres, mysql, &[Tool::Java])?;
    let mut build = cargo();
    build
        .args(["build", "--release", "--package", "outbox-bench", "--bin", "relay"])
        .current_dir(workspace_root());
    run_command(build, "build the benchmark `relay`")?;
    for measured in measured {
        for figure in measured.measure(backlog)? {
            figure.publish()?;
        }
    }
    Ok(())
}

impl Bench {
    fn start() -> Result<Self, Error> {
        Self::start_with(|dir| Database::postgres(&dir.join("postgres")))
    }

    fn start_mysql(server: MySqlServer, log: BinaryLog) -> Result<Self, Error> {
        Self::start_with(|dir| Database::mysql(&dir.join("mysql"), server, log))
    }

    fn start_with(database: impl FnOnce(&Path) -> Result<Database, Error>) -> Result<Self, Error> {
        let scratch = ScratchDir::new("bench")?;
        let database = database(scratch.path())?;
        let kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default())?;
        Ok(Self { scratch, database, kafka, connects: Cell::new(0) })
    }

    fn setting() -> String {
        setting_of("Postgres 15 with fsync and wal_level=logical", Some(DEBEZIUM))
    }

    /// Runs a part of the program, and returns its answer.
    fn run<R: DeserializeOwned>(&self, part: &Part) -> Result<R, Error> {
        self.run_program(PROGRAM, part)
    }

    fn run_program<R: DeserializeOwned>(&self, program: &str, part: &Part) -> Result<R, Error> {
        let mut command = Command::new(workspace_root().join(program));
        command
            .arg(part.argument())
            .env("DATABASE_URL", self.database.url())
            .env("KAFKA_BROKERS", self.kafka.brokers())
            .current_dir(workspace_root());
        let printed = run_command(command, "be measured")?;
        eprintln!("{}: {}", part.argument(), printed.trim());
        serde_json::from_str(&printed).map_err(|error| {
            Error::new(format!("the answer of the benchmark is not understood: {error}: {printed}"))
        })
    }

    /// The same, with processor seconds.
    fn run_timed<R: DeserializeOwned>(
        &self,
        program: &str,
        part: &Part,
    ) -> Result<(R, Cpu), Error> {
        let before = self.cpu()?;
        let answer = self.run_program(program, part)?;
        let after = self.cpu()?;
        Ok((answer, after - before))
    }

    /// The processor seconds so far.
    fn cpu(&self) -> Result<Cpu, Error> {
        let of = |traces: Option<Traces>| {
            traces.map_or(Ok(f64::NAN), |traces| procfs::cpu_seconds_of_tree(traces.pid))
        };
        Ok(Cpu {
            own: procfs::cpu_seconds_of_children()?,
            broker: of(self.kafka.traces())?,
            database: of(self.database.traces())?,
        })
    }

    /// A Connect that writes to `topic` what `slot` has.
    fn connect(&self, topic: &str, slot: &str, setup: Setup) -> Result<Connect, Error> {
        self.connects.set(self.connects.get() + 1);
        let dir = self.scratch.path().join(format!("connect-{}", self.connects.get()));
        let options = ConnectOptions {
            brokers: self.kafka.brokers(),
            source: self.database.source(slot)?,
            topic,
            setup,
        };
        Connect::start(&dir, &options)
    }
}

/// `database`: which, and how it is set. `debezium`: its version, if it takes part.
fn setting_of(database: &str, debezium: Option<&str>) -> String {
    let debezium = debezium.map(|version| format!(", Debezium {version}")).unwrap_or_default();
    format!(
        "{}; {database}, Kafka 4.1 on one node with acks=all{debezium}, all on this machine; events with a payload of about \
         300 bytes.",
        machine()
    )
}

/// Seconds of processor time.
#[derive(Debug, Clone, Copy)]
struct Cpu {
    /// Of the programs that were measured.
    own: f64,
    /// Of Kafka.
    broker: f64,
    /// Of Postgres, MySQL or MariaDB.
    database: f64,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            own: self.own - before.own,
            broker: self.broker - before.broker,
            database: self.database - before.database,
        }
    }
}

impl Cpu {
    fn per_million(self, events: f64) -> Self {
        let per_million = |seconds: f64| seconds * 1e6 / events;
        Self {
            own: per_million(self.own),
            broker: per_million(self.broker),
            database: per_million(self.database),
        }
    }
}

const AT_LEAST: fn(f64) -> Option<Budget> = |least| Some(Budget::AtLeast(least));
const AT_MOST: fn(f64) -> Option<Budget> = |most| Some(Budget::AtMost(most));
