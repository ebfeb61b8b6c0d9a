//! Kafka: one node that is both broker and controller.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{Traces, wait_until_ready};
use crate::fetch::{Artifact, Goal, dist};
use crate::paths::{create_dir_all, remove_dir_all};
use crate::process::{Daemon, run};
use crate::tools::Tool;
use crate::{Error, net};

/// How a Kafka runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Whether a topic is created when a client writes to it. Default: `true`.
    pub auto_create_topics: bool,
    /// The number of partitions of a topic created without one. Default: 6.
    pub partitions: u16,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { auto_create_topics: true, partitions: 6 }
    }
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
    daemon: Option<Daemon>,
}

#[derive(Clone)]
struct Node {
    /// Its roles, as the property file names them.
    role: String,
    port: u16,
    controller_port: u16,
    cluster_id: String,
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

    /// Starts it on a port of the caller's choice.
    pub(crate) fn start_on(
        port: Option<u16>,
        dir: &Path,
        options: KafkaOptions,
    ) -> Result<Self, Error> {
        let [free, controller_port] = net::free_ports()?;
        let port = port.unwrap_or(free);
        let node = Node {
            role: first_node(port, controller_port),
            port,
            controller_port,
            cluster_id: cluster_id(),
        };
        Self::start_node(dir, node, options)
    }

    /// Starts a second broker of this server's cluster, so that a topic can have two replicas.
    /// Killing it does not stop the cluster.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_second(&self, dir: &Path, options: KafkaOptions) -> Result<Self, Error> {
        let [port] = net::free_ports()?;
        let Node { controller_port, cluster_id, .. } = self.node.clone();
        let node =
            Node { role: second_node(port, controller_port), port, controller_port, cluster_id };
        Self::start_node(dir, node, options)
    }

    fn start_node(dir: &Path, node: Node, options: KafkaOptions) -> Result<Self, Error> {
        let libs = fetch()?;
        create_dir_all(dir)?;
        let mut server = Self {
            libs,
            dir: dir.to_owned(),
            log: dir.join("kafka.log"),
            brokers: format!("127.0.0.1:{}", node.port),
            node,
            daemon: None,
        };
        let data = dir.join("data");
        for (file, text) in [
            (server.properties(), server_properties(&data, &server.node.role, options)),
            (server.log_properties(), LOG_PROPERTIES.to_owned()),
        ] {
            fs::write(&file, text)
                .map_err(|error| Error::io(format_args!("write {}", file.display()), error))?;
        }
        server.format(&data)?;
        server.run()?;
        Ok(server)
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
        has_live_broker(self.node.port).unwrap_or(false)
    }

    /// A crash: SIGKILL to the server, which has ended when this returns.
    ///
    /// Nothing happens if the server is down already.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
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
        run(tool, "format the data directory of Kafka")?;
        fs::write(&formatted, "")
            .map_err(|error| Error::io(format_args!("write {}", formatted.display()), error))
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut java = self.java()?;
        java.arg("kafka.Kafka").arg(self.properties());
        let mut daemon = Daemon::spawn(java, &self.log, "KILL")?;
        let port = self.node.port;
        wait_until_ready(&mut daemon, || has_live_broker(port).unwrap_or(false)).map_err(
            |reason| Error::server(format_args!("kafka on port {port} {reason}"), &self.log),
        )?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn java(&self) -> Result<Command, Error> {
        let mut java = Tool::Java.command()?;
        // A busy start and then little work: the quick compiler and the small collector start
        // fastest.
        java.args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
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

const RELEASE: &str = "4.1.0";

pub(super) fn fetch() -> Result<PathBuf, Error> {
    let artifacts = [
        Artifact { group: "org.apache.kafka", name: "kafka_2.13", version: RELEASE },
        // Kafka's own dependencies have no backend for its logger: it would log nothing. The
        // version is that of the log4j which they do have.
        Artifact { group: "org.apache.logging.log4j", name: "log4j-slf4j-impl", version: "2.24.3" },
    ];
    dist(&format!("kafka-{RELEASE}"), &artifacts, Goal::CopyJars, |fetched| Ok(fetched.to_owned()))
}

/// Everything that happens regularly is INFO; what explains a failure is not. The server's standard
/// output is its log file.
const LOG_PROPERTIES: &str = "\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
";

fn first_node(port: u16, controller_port: u16) -> String {
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}"
    )
}

fn second_node(port: u16, controller_port: u16) -> String {
    format!(
        "\
process.roles=broker
node.id=2
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}"
    )
}

fn server_properties(data: &Path, node: &str, options: KafkaOptions) -> String {
    let KafkaOptions { auto_create_topics, partitions } = options;
    // The backslash is the only character of a path that means something else in a property file.
    let data = data.display().to_string().replace('\\', "\\\\");
    format!(
        "\
{node}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable={auto_create_topics}
num.partitions={partitions}
# One node can hold one copy.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Few files instead of fifty each: a first consumer and a first transaction wait for them.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
# The first consumer of a group gets its partitions at once.
group.initial.rebalance.delay.ms=0
# After a kill the controller refuses the node until the session of its former life is over, by default 9 s.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"
    )
}

/// 22 characters of URL-safe base64, which include the hexadecimal digits: 16 bytes.
fn cluster_id() -> String {
    format!("{:016x}{:05x}A", net::random(), net::random() & 0xf_ffff)
}

/// Asks for metadata without topics. Returns whether it lists a broker. A broker that is starting
/// is not listed until its controller lets it lead partitions.
fn has_live_broker(port: u16) -> std::io::Result<bool> {
    const METADATA: i16 = 3;
    const VERSION: i16 = 4;
    const CORRELATION: i32 = 1;

    let mut request = Vec::new();
    request.extend(METADATA.to_be_bytes());
    request.extend(VERSION.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    // No client id.
    request.extend((-1_i16).to_be_bytes());
    // No topics, and none to create.
    request.extend(0_i32.to_be_bytes());
    request.push(0);

    let mut stream = net::connect(port)?;
    let length = u32::try_from(request.len()).unwrap_or(u32::MAX);
    stream.write_all(&[&length.to_be_bytes(), request.as_slice()].concat())?;
    // Length, correlation, throttle time, number of brokers.
    let mut response = [0; 16];
    stream.read_exact(&mut response)?;
    let [.., a, b, c, d] = response;
    Ok(i32::from_be_bytes([a, b, c, d]) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_reach_the_property_file() {
        let options = KafkaOptions { auto_create_topics: false, partitions: 3 };
        let text = server_properties(Path::new("some dir/data"), &first_node(1111, 2222), options);
        let has = |line| text.lines().any(|other| other == line);

        assert!(has("listeners=PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"));
        assert!(has("controller.quorum.voters=1@127.0.0.1:2222"));
        assert!(has("log.dirs=some dir/data"));
        assert!(has("auto.create.topics.enable=false"));
        assert!(has("num.partitions=3"));
    }

    #[test]
    fn a_cluster_id_has_the_length_of_sixteen_bytes_in_base64() {
        assert_eq!(cluster_id().len(), 22);
    }
}
