//! Kafka: one node that is both broker and controller, or a cluster of three of them.

mod acl;
mod cluster;
mod metadata;
mod node;
mod protocol;
mod secured;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

pub use acl::{Acl, Operation, Resource};
pub use cluster::KafkaCluster;
pub use metadata::Partition;
pub use secured::Secured;

use super::{Traces, still_runs, wait_until_ready};
use crate::fetch::{Artifact, Goal, dist};
use crate::paths::{create_dir_all, remove_dir_all};
use crate::process::{Daemon, run};
use crate::tools::Tool;
use crate::{Error, net};
use metadata::lists_broker;
use node::{LOG_PROPERTIES, Listener, Node};

/// How a Kafka runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Whether a topic is created when a client writes to it. Default: `true`.
    pub auto_create_topics: bool,
    /// The number of partitions of a topic created without one. Default: 6.
    pub partitions: u16,
    /// Whether it has listeners with TLS and SASL too, and asks for rights there: see [`Secured`].
    /// Default: `false`.
    pub secured: bool,
    /// Whether it has one more listener, for clients behind a proxy: see [`Proxied`]. Default:
    /// `false`.
    pub proxied: bool,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { auto_create_topics: true, partitions: 6, secured: false, proxied: false }
    }
}

/// The listener of a [`Kafka`] for clients behind a proxy.
///
/// A client connects to the addresses that a broker tells it. Clients of this listener are told
/// that of the proxy, so that all their connections go through it. Other nodes use another
/// listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    /// The port on 127.0.0.1 to which the proxy connects.
    pub server: u16,
    /// The port on 127.0.0.1 that clients are told. The caller has a proxy listen there.
    pub proxy: u16,
}

/// A running Kafka of one node.
///
/// Dropped, it is killed.
pub struct Kafka {
    libs: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    node: Node,
    brokers: String,
    secured: Option<Secured>,
    proxied: Option<Proxied>,
    daemon: Option<Daemon>,
}

impl Kafka {
    /// Starts a server with its data in `dir/data` and its log in `dir/kafka.log`, and waits until
    /// it answers. Data which an earlier server left in `dir` is used again.
    ///
    /// The first start fetches the jars, about 43 MB.
    ///
    /// # Errors
    ///
    /// A program is missing, the download fails, or the server does not start; the message has the
    /// end of its log.
    pub fn start(dir: &Path, options: KafkaOptions) -> Result<Self, Error> {
        Self::start_on(None, dir, options)
    }

    /// Starts it on a port of the caller's choice: that of the listener with SASL, if it has one.
    pub(crate) fn start_on(
        chosen: Option<u16>,
        dir: &Path,
        options: KafkaOptions,
    ) -> Result<Self, Error> {
        let [free, controller_port, server, proxy] = net::free_ports()?;
        let (plain, sasl) = if options.secured { (None, chosen) } else { (chosen, None) };
        let port = plain.unwrap_or(free);
        let controllers = vec![(1, controller_port)];
        let node = Node { id: 1, port, controllers, cluster_id: cluster_id(), replicas: 1 };
        let secured = options.secured.then(|| Secured::make(dir, sasl)).transpose()?;
        Self::start_node(dir, node, options, secured, Proxied { server, proxy })
    }

    /// Starts a second broker of this server's cluster, so that a topic can have two replicas.
    /// Killing it does not stop the cluster.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_second(&self, dir: &Path, options: KafkaOptions) -> Result<Self, Error> {
        let [port, server, proxy] = net::free_ports()?;
        let node = Node { id: 2, port, ..self.node.clone() };
        let secured = options.secured.then(|| Secured::make(dir, None)).transpose()?;
        Self::start_node(dir, node, options, secured, Proxied { server, proxy })
    }

    fn start_node(
        dir: &Path,
        node: Node,
        options: KafkaOptions,
        secured: Option<Secured>,
        proxied: Proxied,
    ) -> Result<Self, Error> {
        let libs = fetch()?;
        create_dir_all(dir)?;
        let mut server = Self {
            libs,
            dir: dir.to_owned(),
            log: dir.join("kafka.log"),
            brokers: format!("127.0.0.1:{}", node.port),
            node,
            secured,
            proxied: options.proxied.then_some(proxied),
            daemon: None,
        };
        let data = dir.join("data");
        for (file, text) in [
            (server.properties(), server.text(&data, options)),
            (server.log_properties(), LOG_PROPERTIES.to_owned()),
        ] {
            fs::write(&file, text)
                .map_err(|error| Error::io(format_args!("write {}", file.display()), error))?;
        }
        server.format(&data)?;
        server.run()?;
        Ok(server)
    }

    fn text(&self, data: &Path, options: KafkaOptions) -> String {
        let secured = self.secured.iter().flat_map(Secured::listeners);
        let proxied = self.proxied.iter().map(|Proxied { server, proxy }| Listener {
            told: *proxy,
            ..Listener::new("PROXIED", "PLAINTEXT", *server)
        });
        let text = self.node.properties(data, options, secured.chain(proxied).collect());
        self.secured.iter().fold(text, |text, secured| text + &secured.properties())
    }

    /// The listeners of a server with [`KafkaOptions::secured`].
    ///
    /// # Errors
    ///
    /// The server has none.
    pub fn secured(&self) -> Result<&Secured, Error> {
        self.secured.as_ref().ok_or_else(|| Error::new("this Kafka has no `KafkaOptions::secured`"))
    }

    /// The listener of a server with [`KafkaOptions::proxied`].
    ///
    /// # Errors
    ///
    /// The server has none.
    pub fn proxied(&self) -> Result<Proxied, Error> {
        self.proxied.ok_or_else(|| Error::new("this Kafka has no `KafkaOptions::proxied`"))
    }

    /// Grants rights, and waits until the server knows them.
    ///
    /// # Errors
    ///
    /// The server does not answer, or refuses.
    pub fn allow(&self, acls: &[Acl]) -> Result<(), Error> {
        acl::create(self.node.port, acls)
    }

    /// Where to connect: `127.0.0.1:PORT`, the same after every restart.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The port on 127.0.0.1, the same after every restart.
    pub fn port(&self) -> u16 {
        self.node.port
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether the server answers now and can lead partitions.
    pub fn answers(&self) -> bool {
        lists_broker(self.node.port)
    }

    /// # Errors
    ///
    /// The server has ended by itself; the message has the end of its log.
    pub(crate) fn still_runs(&mut self) -> Result<(), Error> {
        still_runs(self.daemon.as_mut(), "Kafka", &self.log)
    }

    /// A crash: SIGKILL to the server, which has ended when this returns.
    ///
    /// Nothing happens if the server is down already.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// A machine that froze: SIGSTOP to the server. Connections stay open, and nothing is answered
    /// any more.
    pub fn suspend(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.suspend();
        }
    }

    /// Starts the server again with the same data and ports, and waits until it answers. A running
    /// server is stopped first.
    ///
    /// # Errors
    ///
    /// The server does not start; the message has the end of its log.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.shut_down();
        self.run()
    }

    /// Stops the server in order.
    pub fn stop(mut self) {
        self.shut_down();
    }

    /// What it takes to stop this server from another process.
    pub(crate) fn traces(&self) -> Option<Traces> {
        Some(Traces {
            pid: self.daemon.as_ref()?.pid().as_raw_pid(),
            mark: self.properties().display().to_string(),
            elsewhere: None,
        })
    }

    /// Lets the server outlive this process.
    pub(crate) fn detach(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.detach();
        }
    }

    fn shut_down(&mut self) {
        if let Some(mut daemon) = self.daemon.take()
            && !daemon.end_with(Signal::TERM, Duration::from_secs(20))
        {
            daemon.kill();
        }
    }

    fn properties(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn log_properties(&self) -> PathBuf {
        self.dir.join("log4j2.properties")
    }

    /// Gives the data directory its identity, which Kafka wants done once before the first start.
    fn format(&self, data: &Path) -> Result<(), Error> {
        // A mark of ours, made when the tool has finished: if it is interrupted, it is run again.
        let formatted = self.dir.join("formatted");
        if formatted.exists() {
            return Ok(());
        }
        remove_dir_all(data)?;
        let mut tool = self.java()?;
        tool.args([
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            &self.node.cluster_id,
            "--config",
        ]);
        tool.arg(self.properties());
        if self.secured.is_some() {
            tool.args(secured::USERS_AT_FORMAT);
        }
        run(tool, "format the data directory of Kafka")?;
        fs::write(&formatted, "")
            .map_err(|error| Error::io(format_args!("write {}", formatted.display()), error))
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut java = self.java()?;
        java.arg("kafka.Kafka").arg(self.properties());
        let mut daemon = Daemon::spawn(java, &self.log, "KILL")?;
        let port = self.node.port;
        wait_until_ready(&mut daemon, || lists_broker(port)).map_err(|reason| {
            Error::server(format_args!("kafka on port {port} {reason}"), &self.log)
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn java(&self) -> Result<Command, Error> {
        let mut java = Tool::Java.command()?;
        // A busy start and then little work: the quick compiler and the small collector start
        // fastest.
        java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        // Three nodes of a cluster share a machine with the tests.
        java.args(if self.node.has_peers() {
            ["-Xms64m", "-Xmx256m"]
        } else {
            ["-Xms128m", "-Xmx512m"]
        });
        java.arg(format!("-Dlog4j2.configurationFile={}", self.log_properties().display()));
        java.arg("-cp").arg(self.libs.join("*"));
        Ok(java)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kafka at {}", self.brokers)
    }
}

/// Also of its other programs that are fetched.
pub(crate) const RELEASE: &str = "4.1.0";

pub(super) fn fetch() -> Result<PathBuf, Error> {
    let artifacts = [
        Artifact { group: "org.apache.kafka", name: "kafka_2.13", version: RELEASE },
        // Kafka's own dependencies have no backend for its logger: it would log nothing. The
        // version is that of the log4j which they do have.
        Artifact { group: "org.apache.logging.log4j", name: "log4j-slf4j-impl", version: "2.24.3" },
    ];
    dist(&format!("kafka-{RELEASE}"), &artifacts, Goal::CopyJars, |fetched| Ok(fetched.to_owned()))
}

/// 22 characters of URL-safe base64, which include the hexadecimal digits: 16 bytes.
fn cluster_id() -> String {
    format!("{:016x}{:05x}A", net::random(), net::random() & 0xf_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_has_the_length_of_sixteen_bytes_in_base64() {
        assert_eq!(cluster_id().len(), 22);
    }
}
