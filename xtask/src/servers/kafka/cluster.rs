//! Three nodes, of which any one can die.

use std::fmt;
use std::io;
use std::path::Path;
use std::thread;

use super::metadata::{Partition, Topics, coordinator, metadata};
use super::node::Node;
use super::{Kafka, KafkaOptions, Proxied, cluster_id};
use crate::net::{self, wait_for};
use crate::servers::START_BOUND;
use crate::{Error, paths};

/// A running cluster of three nodes, each of them broker and controller.
///
/// A topic has a copy on each node if no other number is asked for, those of consumer groups and of
/// transactions included, and takes writes while two copies are in sync. Once the session of a
/// killed node is over, after three seconds, others lead its partitions and coordinate in its
/// place; if it was the active controller, once they have elected another.
///
/// The nodes are called 0, 1 and 2, also in their logs. Dropped, all are killed.
pub struct KafkaCluster {
    nodes: Vec<Kafka>,
}

impl KafkaCluster {
    /// Starts the nodes with their data and logs in `dir/node-0` and so on, and waits until each of
    /// them knows all. The heap of a node has at most 256 MB.
    ///
    /// # Errors
    ///
    /// As [`Kafka::start`]. There is no cluster with [`KafkaOptions::secured`].
    pub fn start(dir: &Path, options: KafkaOptions) -> Result<Self, Error> {
        if options.secured {
            return Err(Error::new("a `KafkaCluster` has no `KafkaOptions::secured`"));
        }
        paths::create_dir_all(dir)?;
        let nodes = new_nodes()?;
        // At the same time: one alone has no controller, and does not answer.
        let started: Result<_, _> = thread::scope(|scope| {
            let start = |(node, proxied): (Node, Proxied)| {
                let dir = dir.join(format!("node-{}", node.id));
                scope.spawn(move || Kafka::start_node(&dir, node, options, None, proxied))
            };
            let starting: Vec<_> = nodes.into_iter().map(start).collect();
            let started = starting.into_iter().map(|node| match node.join() {
                Ok(started) => started,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            started.collect()
        });
        let cluster = Self { nodes: started? };
        cluster.wait_until_known()?;
        Ok(cluster)
    }

    /// Where to connect: the addresses of all nodes, the same after every restart.
    pub fn brokers(&self) -> String {
        let addresses: Vec<&str> = self.nodes.iter().map(Kafka::brokers).collect();
        addresses.join(",")
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> &[Kafka] {
        &self.nodes
    }

    /// A crash of a node: SIGKILL. It has ended when this returns; the others do not know yet.
    ///
    /// # Panics
    ///
    /// There is no such node.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node again, and waits until all that run know it. Its copies are not complete yet:
    /// see [`is_in_sync`](Self::is_in_sync).
    ///
    /// # Errors
    ///
    /// The node does not start; the message has the end of its log.
    ///
    /// # Panics
    ///
    /// There is no such node.
    pub fn restart(&mut self, node: usize) -> Result<(), Error> {
        self.nodes[node].restart()?;
        self.wait_until_known()
    }

    /// Where a partition is, as a running node knows it. `None`: there is no such partition.
    ///
    /// # Errors
    ///
    /// No node answers.
    pub fn partition(&self, topic: &str, number: i32) -> Result<Option<Partition>, Error> {
        let known = self.ask(|port| metadata(port, Topics::One(topic)))?.partitions;
        let found = known.into_iter().find(|(_, known, _)| *known == number);
        Ok(found.map(|(_, _, partition)| partition))
    }

    /// The node that is the coordinator of a transactional id, as a running node knows it. `None`:
    /// none is now; ask again.
    ///
    /// # Errors
    ///
    /// No node answers.
    pub fn coordinator(&self, transactional_id: &str) -> Result<Option<usize>, Error> {
        self.ask(|port| coordinator(port, transactional_id))
    }

    /// Whether each copy of each partition is complete: then any one node can be killed, and no
    /// topic refuses writes because of it.
    ///
    /// # Errors
    ///
    /// No node answers.
    pub fn is_in_sync(&self) -> Result<bool, Error> {
        let known = self.ask(|port| metadata(port, Topics::All))?.partitions;
        let complete = |partition: &Partition| {
            partition.leader.is_some() && partition.in_sync.len() == partition.replicas.len()
        };
        Ok(known.iter().all(|(_, _, partition)| complete(partition)))
    }

    /// The answer of the first node that has one.
    fn ask<T>(&self, question: impl Fn(u16) -> io::Result<T>) -> Result<T, Error> {
        let mut failed = None;
        for node in self.nodes.iter().filter(|node| node.daemon.is_some()) {
            match question(node.port()) {
                Ok(answer) => return Ok(answer),
                Err(error) => failed = Some(error),
            }
        }
        let error = failed.unwrap_or_else(|| io::ErrorKind::NotConnected.into());
        Err(Error::io("ask the nodes of a Kafka", error))
    }

    /// Waits until each node that runs lists all of them.
    fn wait_until_known(&self) -> Result<(), Error> {
        let running: Vec<u16> =
            self.nodes.iter().filter(|node| node.daemon.is_some()).map(Kafka::port).collect();
        let knows_all = |port: &u16| {
            let known = metadata(*port, Topics::None).map(|known| known.brokers);
            known.is_ok_and(|known| {
                running.iter().all(|port| known.iter().any(|(_, known)| known == port))
            })
        };
        wait_for(START_BOUND, || running.iter().all(knows_all).then_some(()))
            .ok_or_else(|| Error::new("the nodes of a Kafka do not find each other"))
    }
}

/// The nodes to start, and the ports of each for a proxy. All ports are chosen at once, and differ.
fn new_nodes() -> Result<Vec<(Node, Proxied)>, Error> {
    let ports: [[u16; 4]; 3] = {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = net::free_ports()?;
        [[a, b, c, d], [e, f, g, h], [i, j, k, l]]
    };
    let cluster_id = cluster_id();
    let controllers: Vec<_> =
        ports.iter().enumerate().map(|(id, [_, controller, ..])| (id, *controller)).collect();
    let node = |(id, [port, _, server, proxy]): (usize, [u16; 4])| {
        let (controllers, cluster_id) = (controllers.clone(), cluster_id.clone());
        (Node { id, port, controllers, cluster_id, replicas: 3 }, Proxied { server, proxy })
    };
    Ok(ports.into_iter().enumerate().map(node).collect())
}

impl fmt::Debug for KafkaCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kafka at {}", self.brokers())
    }
}
