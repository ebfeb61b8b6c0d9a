//! Kafka Connect in its standalone mode, with Debezium's connector for Postgres: a contender of the
//! benchmarks.

use std::fs;
use std::path::Path;

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
    /// Whether it has larger batches and queues, and a producer that waits for them.
    pub(crate) tuned: bool,
}

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
        let offsets = dir.join("offsets");
        let worker_text = format!(
            "bootstrap.servers={}\nlisteners=HTTP://127.0.0.1:{port}\noffset.storage.file.filename={}\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.storage.StringConverter\n\
             plugin.discovery=only_scan\n",
            options.brokers,
            offsets.display()
        );
        let connector_text = connector_properties(options);
        for (path, text) in [(&worker, worker_text), (&connector, connector_text)] {
            fs::write(path, text)
                .map_err(|error| Error::io(format_args!("write {}", path.display()), error))?;
        }
        let mut java = Tool::Java.command()?;
        // The heap of Kafka's own start script.
        java.args(["-Xms256M", "-Xmx2G", "-cp"]).arg(libs.join("*"));
        java.arg("org.apache.kafka.connect.cli.ConnectStandalone").args([&worker, &connector]);
        Ok(Self { daemon: Daemon::spawn(java, &dir.join("connect.log"), "KILL")? })
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64, Error> {
        procfs::cpu_seconds_of_tree(self.daemon.pid().as_raw_pid())
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        procfs::peak_mib(self.daemon.pid().as_raw_pid())
    }
}

fn connector_properties(options: &ConnectOptions<'_>) -> String {
    let ConnectOptions { database_port, topic, slot, tuned, .. } = options;
    let tuning = if *tuned {
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
         transforms.outbox.table.fields.additional.placement=type:header:ce_type\n{tuning}"
    )
}
