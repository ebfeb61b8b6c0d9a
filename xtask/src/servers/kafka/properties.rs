//! The property files of a node.

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

pub(super) fn first_node(port: u16, controller_port: u16) -> String {
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}"
    )
}

pub(super) fn second_node(port: u16, controller_port: u16) -> String {
    format!(
        "\
process.roles=broker
node.id=2
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}"
    )
}

pub(super) fn server_properties(data: &Path, node: &str, options: KafkaOptions) -> String {
    let KafkaOptions { auto_create_topics, partitions, .. } = options;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_reach_the_property_file() {
        let options =
            KafkaOptions { auto_create_topics: false, partitions: 3, ..KafkaOptions::default() };
        let text = server_properties(Path::new("some dir/data"), &first_node(1111, 2222), options);
        let has = |line| text.lines().any(|other| other == line);

        assert!(has("listeners=PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"));
        assert!(has("controller.quorum.voters=1@127.0.0.1:2222"));
        assert!(has("log.dirs=some dir/data"));
        assert!(has("auto.create.topics.enable=false"));
        assert!(has("num.partitions=3"));
    }
}
