//! Kafka Connect with Debezium's connector for Postgres: a contender of the benchmarks.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::fetch::{Artifact, Goal, dist};
use crate::paths::create_dir_all;
use crate::process::Daemon;
use crate::tools::Tool;
use crate::{Error, net, procfs};

const CONNECT: &str = "4.1.0";
pub(crate) const DEBEZIUM: &str = "3.3.1.Final";

/// A running worker with one connector, whose outbox is the table `debezium_outbox`. Dropped, it is
/// killed.
pub(crate) struct Connect {
    daemon: Daemon,
}

pub(crate) struct ConnectOptions<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) database_port: u16,
    /// The topic of its events.
    pub(crate) topic: &'a str,
    /// The replication slot that it reads from, which exists.
    pub(crate) slot: &'a str,
    pub(crate) setup: Setup,
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
    pub(crate) fn start(dir: &Path, options: &ConnectOptions<'_>) -> Result<Self, Error> {
        let libs = dist(
            &format!("debezium-{DEBEZIUM}"),
            &[
                Artifact {
                    group: "io.debezium",
                    name: "debezium-connector-postgres",
                    version: DEBEZIUM,
                },
                Artifact { group: "org.apache.kafka", name: "connect-runtime", version: CONNECT },
            ],
            Goal::CopyJars,
            |fetched| Ok(fetched.to_owned()),
        )?;
        create_dir_all(dir)?;
        let [port] = net::free_ports()?;
        let [worker, connector] =
            ["worker.properties", "connector.properties"].map(|name| dir.join(name));
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
            format!("offset.storage.file.filename={}\n", dir.join("offsets").display())
        };
        let worker_text = format!(
            "bootstrap.servers={}\nlisteners=HTTP://127.0.0.1:{port}\n{storage}\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.storage.StringConverter\n\
             plugin.discovery=only_scan\n",
            options.brokers,
        );
        let connector_text = connector_properties(options);
        let as_json = json(&connector_text)?;
        for (path, text) in [(&worker, worker_text), (&connector, connector_text)] {
            fs::write(path, text)
                .map_err(|error| Error::io(format_args!("write {}", path.display()), error))?;
        }
        let mut java = Tool::Java.command()?;
        // The heap of Kafka's own start script.
        java.args(["-Xms256M", "-Xmx2G", "-cp"]).arg(libs.join("*"));
        let log = dir.join("connect.log");
        if !is_distributed {
            java.arg("org.apache.kafka.connect.cli.ConnectStandalone").args([&worker, &connector]);
            return Ok(Self { daemon: Daemon::spawn(java, &log, "KILL")? });
        }
        java.arg("org.apache.kafka.connect.cli.ConnectDistributed").arg(&worker);
        let connect = Self { daemon: Daemon::spawn(java, &log, "KILL")? };
        // It answers 409 or 500 until it is ready.
        let taken = net::wait_for(STARTS_WITHIN, || put_connector(port, &as_json).then_some(()));
        taken.ok_or_else(|| Error::server("Kafka Connect took no connector", &log))?;
        Ok(connect)
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64, Error> {
        procfs::cpu_seconds_of_tree(self.daemon.pid().as_raw_pid())
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        procfs::peak_mib(self.daemon.pid().as_raw_pid())
    }
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
    let put = || {
        let mut stream = net::connect(port)?;
        stream.set_read_timeout(Some(STARTS_WITHIN))?;
        write!(
            stream,
            "PUT /connectors/outbox/config HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{properties}",
            properties.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer.starts_with("HTTP/1.1 201"))
    };
    put().unwrap_or(false)
}

fn connector_properties(options: &ConnectOptions<'_>) -> String {
    let ConnectOptions { database_port, topic, slot, setup, .. } = options;
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
        "name=outbox\nconnector.class=io.debezium.connector.postgresql.PostgresConnector\ntasks.max=1\n\
         database.hostname=127.0.0.1\ndatabase.port={database_port}\ndatabase.user=postgres\ndatabase.password=none\n\
         database.dbname=postgres\ntopic.prefix=debezium\nplugin.name=pgoutput\nslot.name={slot}\n\
         publication.name=debezium\npublication.autocreate.mode=disabled\nsnapshot.mode=no_data\n\
         table.include.list=public.debezium_outbox\ntombstones.on.delete=false\n\
         transforms=outbox\ntransforms.outbox.type=io.debezium.transforms.outbox.EventRouter\n\
         transforms.outbox.route.topic.replacement={topic}\n\
         transforms.outbox.table.fields.additional.placement=type:header:ce_type\n{tuning}{exactly_once}"
    )
}
