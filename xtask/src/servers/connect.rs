//! Kafka Connect with Debezium's connectors: a contender of the benchmarks, and what a test hands an
//! outbox over to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::fetch::{Artifact, Goal, dist};
use crate::paths::create_dir_all;
use crate::process::Daemon;
use crate::tools::Tool;
use crate::{Error, net, procfs};

use super::MySqlServer;
use super::kafka::RELEASE;

pub(crate) const DEBEZIUM: &str = "3.3.1.Final";
/// The version of the connector for MariaDB: there is none of 3.3.1.
pub(crate) const DEBEZIUM_OF_MARIA_DB: &str = "3.3.0.Final";

/// A running worker with one connector. Its outbox is the table `debezium_outbox`; on MySQL and
/// MariaDB that of outbox itself. Dropped, it is killed.
pub struct Connect {
    daemon: Daemon,
    /// Of its HTTP interface.
    port: u16,
    log: PathBuf,
}

pub(crate) struct ConnectOptions<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) source: Source<'a>,
    /// The topic of its events. On MySQL and MariaDB, each event says which.
    pub(crate) topic: &'a str,
    pub(crate) setup: Setup,
}

/// What it reads, on 127.0.0.1.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Postgres {
        port: u16,
        /// The replication slot, which exists.
        slot: &'a str,
    },
    MySql {
        port: u16,
        server: MySqlServer,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    Shipped,
    /// With larger batches and queues, and a producer that waits for them.
    Tuned,
    /// Tuned, and with a transaction for each batch: a worker in the distributed mode has them.
    ExactlyOnce,
}

impl Setup {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shipped => "shipped",
            Self::Tuned => "tuned",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

/// The longest time until a worker takes a connector.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

impl Connect {
    /// Debezium on Postgres with a connector of these properties. It continues from the offsets that an
    /// earlier one has left in this directory.
    ///
    /// # Errors
    ///
    /// The programs cannot be fetched, or the process not be started. What is wrong with the properties
    /// is in its log.
    pub fn debezium(dir: &Path, brokers: &str, properties: &str) -> Result<Self, Error> {
        let libs = postgres_libraries()?;
        create_dir_all(dir)?;
        let [port] = net::free_ports()?;
        // What it confirms to Postgres is as old as its saved offsets: a minute, by default.
        let storage = format!("{}offset.flush.interval.ms=200\n", file_storage(dir));
        let [worker, connector] =
            write_properties(dir, &worker(brokers, port, &storage), properties)?;
        Self::standalone(&libs, dir, port, [&worker, &connector])
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn start(dir: &Path, options: &ConnectOptions<'_>) -> Result<Self, Error> {
        let libs = options.source.libraries()?;
        create_dir_all(dir)?;
        let [port] = net::free_ports()?;
        let is_distributed = options.setup == Setup::ExactlyOnce;
        let storage = if is_distributed {
            let topic = options.topic;
            format!(
                "group.id={topic}-connect\nexactly.once.source.support=enabled\n\
                 offset.storage.topic={topic}-offsets\noffset.storage.replication.factor=1\n\
                 config.storage.topic={topic}-configs\nconfig.storage.replication.factor=1\n\
                 status.storage.topic={topic}-status\nstatus.storage.replication.factor=1\n"
            )
        } else {
            file_storage(dir)
        };
        let connector_text = connector_properties(options);
        let as_json = json(&connector_text)?;
        let [worker, connector] =
            write_properties(dir, &worker(options.brokers, port, &storage), &connector_text)?;
        if !is_distributed {
            return Self::standalone(&libs, dir, port, [&worker, &connector]);
        }
        let mut java = java(&libs)?;
        java.arg("org.apache.kafka.connect.cli.ConnectDistributed").arg(&worker);
        let log = dir.join("connect.log");
        let connect = Self { daemon: Daemon::spawn(java, &log, "KILL")?, port, log };
        // It answers 409 or 500 until it is ready.
        let taken = net::wait_for(STARTS_WITHIN, || put_connector(port, &as_json).then_some(()));
        taken.ok_or_else(|| Error::server("Kafka Connect took no connector", &connect.log))?;
        Ok(connect)
    }

    fn standalone(
        libs: &Path,
        dir: &Path,
        port: u16,
        properties: [&Path; 2],
    ) -> Result<Self, Error> {
        let log = dir.join("connect.log");
        let mut java = java(libs)?;
        java.arg("org.apache.kafka.connect.cli.ConnectStandalone").args(properties);
        Ok(Self { daemon: Daemon::spawn(java, &log, "KILL")?, port, log })
    }

    /// What is wrong with it, with what it says itself of its connector, and the end of its log.
    pub(crate) fn error(&self, what: &str) -> Error {
        let status = net::ask(self.port, STARTS_WITHIN, "GET /connectors/outbox/status", "")
            .unwrap_or_else(|error| error.to_string());
        Error::server(format_args!("{what}: {status}"), &self.log)
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64, Error> {
        procfs::cpu_seconds_of_tree(self.daemon.pid().as_raw_pid())
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        procfs::peak_mib(self.daemon.pid().as_raw_pid())
    }
}

impl Source<'_> {
    /// The directory of the jars.
    fn libraries(self) -> Result<PathBuf, Error> {
        let (dir, name, version) = match self {
            Self::Postgres { .. } => return postgres_libraries(),
            Self::MySql { server, .. } if server.is_maria_db() => {
                ("debezium-mariadb", "debezium-connector-mariadb", DEBEZIUM_OF_MARIA_DB)
            }
            Self::MySql { .. } => ("debezium-mysql", "debezium-connector-mysql", DEBEZIUM),
        };
        libraries(dir, name, version)
    }
}

/// The jars of Debezium on Postgres, which are fetched if they are not there.
pub(crate) fn postgres_libraries() -> Result<PathBuf, Error> {
    libraries("debezium", "debezium-connector-postgres", DEBEZIUM)
}

fn libraries(dir: &str, name: &'static str, version: &'static str) -> Result<PathBuf, Error> {
    let connector = Artifact { group: "io.debezium", name, version };
    let runtime = Artifact { group: "org.apache.kafka", name: "connect-runtime", version: RELEASE };
    dist(&format!("{dir}-{version}"), &[connector, runtime], Goal::CopyJars, |fetched| {
        Ok(fetched.to_owned())
    })
}

fn file_storage(dir: &Path) -> String {
    format!("offset.storage.file.filename={}\n", dir.join("offsets").display())
}

fn worker(brokers: &str, port: u16, storage: &str) -> String {
    format!(
        "bootstrap.servers={brokers}\nlisteners=HTTP://127.0.0.1:{port}\n{storage}\
         key.converter=org.apache.kafka.connect.storage.StringConverter\n\
         value.converter=org.apache.kafka.connect.storage.StringConverter\n\
         plugin.discovery=only_scan\n",
    )
}

/// Writes the files of a worker and its connector.
fn write_properties(dir: &Path, worker: &str, connector: &str) -> Result<[PathBuf; 2], Error> {
    let files = ["worker.properties", "connector.properties"].map(|name| dir.join(name));
    for (path, text) in files.iter().zip([worker, connector]) {
        fs::write(path, text)
            .map_err(|error| Error::io(format_args!("write {}", path.display()), error))?;
    }
    Ok(files)
}

fn java(libs: &Path) -> Result<Command, Error> {
    let mut java = Tool::Java.command()?;
    // The heap of Kafka's own start script.
    java.args(["-Xms256M", "-Xmx2G", "-cp"]).arg(libs.join("*"));
    Ok(java)
}

/// Properties as an object of JSON.
fn json(properties: &str) -> Result<String, Error> {
    let properties: BTreeMap<_, _> =
        properties.lines().filter_map(|line| line.split_once('=')).collect();
    serde_json::to_string(&properties)
        .map_err(|error| Error::new(format!("write the connector's properties: {error}")))
}

/// Whether the worker took the connector.
fn put_connector(port: u16, properties: &str) -> bool {
    let answer = net::ask(port, STARTS_WITHIN, "PUT /connectors/outbox/config", properties);
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 201"))
}

fn connector_properties(options: &ConnectOptions<'_>) -> String {
    let ConnectOptions { source, topic, setup, .. } = options;
    let source = match source {
        Source::Postgres { port, slot } => postgres_properties(*port, slot, topic),
        Source::MySql { port, server } => mysql_properties(*port, *server, options.brokers),
    };
    let exactly_once =
        if *setup == Setup::ExactlyOnce { "exactly.once.support=required\n" } else { "" };
    let tuning = if *setup != Setup::Shipped {
        "max.batch.size=32768\nmax.queue.size=131072\npoll.interval.ms=5\n\
         producer.override.linger.ms=5\nproducer.override.batch.size=524288\nproducer.override.buffer.memory=134217728\n\
         producer.override.compression.type=lz4\n"
    } else {
        ""
    };
    format!(
        "name=outbox\ntasks.max=1\ntopic.prefix=debezium\nsnapshot.mode=no_data\ntombstones.on.delete=false\n\
         transforms=outbox\ntransforms.outbox.type=io.debezium.transforms.outbox.EventRouter\n\
         database.hostname=127.0.0.1\n{source}{tuning}{exactly_once}"
    )
}

fn postgres_properties(port: u16, slot: &str, topic: &str) -> String {
    format!(
        "connector.class=io.debezium.connector.postgresql.PostgresConnector\n\
         database.port={port}\ndatabase.user=postgres\ndatabase.password=none\n\
         database.dbname=postgres\nplugin.name=pgoutput\nslot.name={slot}\n\
         publication.name=debezium\npublication.autocreate.mode=disabled\n\
         table.include.list=public.debezium_outbox\n\
         transforms.outbox.route.topic.replacement={topic}\n\
         transforms.outbox.table.fields.additional.placement=type:header:ce_type\n"
    )
}

/// It reads what is inserted into outbox's own table from the binary log; that a relay deletes it
/// later is skipped.
fn mysql_properties(port: u16, server: MySqlServer, brokers: &str) -> String {
    let connector = if server.is_maria_db() {
        "mariadb.MariaDbConnector\ndatabase.ssl.mode=disable"
    } else {
        "mysql.MySqlConnector\ndatabase.ssl.mode=disabled"
    };
    format!(
        "connector.class=io.debezium.connector.{connector}\ndatabase.port={port}\ndatabase.user=debezium\ndatabase.password=debezium\n\
         database.server.id=4711\ndatabase.include.list=outbox\ntable.include.list=outbox.outbox_event\n\
         skipped.operations=u,d,t\nbinary.handling.mode=bytes\ninclude.schema.changes=false\n\
         snapshot.locking.mode=none\n\
         schema.history.internal.kafka.bootstrap.servers={brokers}\n\
         schema.history.internal.kafka.topic=debezium-history\n\
         key.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n\
         value.converter=org.apache.kafka.connect.converters.ByteArrayConverter\n\
         transforms.outbox.table.field.event.key=event_key\n\
         transforms.outbox.route.by.field=topic\ntransforms.outbox.route.topic.replacement=${{routedByValue}}\n\
         transforms.outbox.table.fields.additional.placement=name:header:ce_type\n"
    )
}
