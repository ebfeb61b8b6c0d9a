//! A node: where it listens, and its property file.

use std::path::Path;

use super::KafkaOptions;

/// Everything that happens regularly is INFO; what explains a failure is not. The server's standard
/// output is its log file.
pub(super) const LOG_PROPERTIES: &str = "\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
";

#[derive(Clone)]
pub(super) struct Node {
    pub(super) id: usize,
    /// The port of its listener without TLS.
    pub(super) port: u16,
    /// Identity and port of each controller. A node that is none of them is a broker only.
    pub(super) controllers: Vec<(usize, u16)>,
    pub(super) cluster_id: String,
    /// Number of copies of a topic for which no other number is asked.
    pub(super) replicas: u16,
}

/// One place where a node listens.
pub(super) struct Listener {
    pub(super) name: &'static str,
    pub(super) protocol: &'static str,
    pub(super) port: u16,
    /// The port that its clients are told to connect to.
    pub(super) told: u16,
}

impl Listener {
    pub(super) fn new(name: &'static str, protocol: &'static str, port: u16) -> Self {
        Self { name, protocol, port, told: port }
    }

    fn at(&self, port: u16) -> String {
        format!("{}://127.0.0.1:{port}", self.name)
    }
}

impl Node {
    /// Whether several nodes are the controllers: it is one of a cluster.
    pub(super) fn has_peers(&self) -> bool {
        self.controllers.len() > 1
    }

    /// The property file of a node that has `others` beside its plain listener.
    pub(super) fn properties(
        &self,
        data: &Path,
        options: KafkaOptions,
        others: Vec<Listener>,
    ) -> String {
        let KafkaOptions { auto_create_topics, partitions, .. } = options;
        let Self { id, replicas, .. } = self;
        // All but one, and the only one.
        let in_sync = replicas.saturating_sub(1).max(1);
        // A node is taken for dead when its session is over. Where others take its place, one that
        // was only slow for a moment should keep it.
        let session = if self.has_peers() { 3000 } else { 2000 };
        let (roles, listeners) = (self.roles(), self.listeners(others));
        // The backslash is the only character of a path that means something else in a property
        // file.
        let data = data.display().to_string().replace('\\', "\\\\");
        format!(
            "\
node.id={id}
{roles}{listeners}\
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable={auto_create_topics}
num.partitions={partitions}
# Where copies are: one node can hold one.
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
# Few files instead of fifty each: a first consumer and a first transaction wait for them.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
# By default, compaction takes 128 MB of each node's memory when it starts.
log.cleaner.dedupe.buffer.size=16777216
# The first consumer of a group gets its partitions at once.
group.initial.rebalance.delay.ms=0
# After a kill the controller refuses the node until the session of its former life is over, by default 9 s.
broker.session.timeout.ms={session}
broker.heartbeat.interval.ms=500
"
        )
    }

    fn roles(&self) -> String {
        let voters: Vec<String> =
            self.controllers.iter().map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let roles = if self.controller().is_some() { "broker,controller" } else { "broker" };
        format!("process.roles={roles}\ncontroller.quorum.voters={}\n", voters.join(","))
    }

    fn listeners(&self, others: Vec<Listener>) -> String {
        let mut all = others;
        all.insert(0, Listener::new("PLAINTEXT", "PLAINTEXT", self.port));
        let join = |parts: Vec<String>| parts.join(",");
        let told = join(all.iter().map(|listener| listener.at(listener.told)).collect());
        let protocol = |listener: &Listener| format!("{}:{}", listener.name, listener.protocol);
        let protocols = join(all.iter().map(protocol).collect());
        all.extend(self.controller());
        let listeners = join(all.iter().map(|listener| listener.at(listener.port)).collect());
        format!(
            "listeners={listeners}\nadvertised.listeners={told}\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocols}\n"
        )
    }

    fn controller(&self) -> Option<Listener> {
        let (_, port) = self.controllers.iter().find(|(id, _)| *id == self.id)?;
        Some(Listener::new("CONTROLLER", "PLAINTEXT", *port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: usize, replicas: u16) -> Node {
        let cluster_id = "0123456789abcdef012345".to_owned();
        Node { id, port: 1111, controllers: vec![(1, 2222)], cluster_id, replicas }
    }

    fn lines(node: &Node, others: Vec<Listener>) -> Vec<String> {
        let options =
            KafkaOptions { auto_create_topics: false, partitions: 3, ..KafkaOptions::default() };
        let text = node.properties(Path::new("some dir/data"), options, others);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_options_reach_the_property_file() {
        let lines = lines(&node(1, 1), Vec::new());
        let has = |line: &str| lines.iter().any(|other| other == line);

        assert!(has("process.roles=broker,controller"));
        assert!(has("listeners=PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"));
        assert!(has("controller.quorum.voters=1@127.0.0.1:2222"));
        assert!(has("log.dirs=some dir/data"));
        assert!(has("auto.create.topics.enable=false"));
        assert!(has("num.partitions=3"));
        assert!(has("min.insync.replicas=1"));
    }

    #[test]
    fn a_broker_has_no_listener_of_controllers_and_tells_clients_the_ports_for_them() {
        let through = Listener { told: 4444, ..Listener::new("PROXIED", "PLAINTEXT", 3333) };
        let lines = lines(&node(2, 3), vec![through]);
        let has = |line: &str| lines.iter().any(|other| other == line);

        assert!(has("process.roles=broker"));
        assert!(has("listeners=PLAINTEXT://127.0.0.1:1111,PROXIED://127.0.0.1:3333"));
        assert!(has("advertised.listeners=PLAINTEXT://127.0.0.1:1111,PROXIED://127.0.0.1:4444"));
        assert!(has(
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT"
        ));
        assert!(has("min.insync.replicas=2"));
    }
}
