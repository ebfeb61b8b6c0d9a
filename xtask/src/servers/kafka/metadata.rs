//! What a node knows of its cluster.

use std::io;

use super::protocol::{Answer, Request};

/// Where a partition is, as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The node that leads it. `None`: none does now.
    pub leader: Option<usize>,
    /// The nodes that have a copy.
    pub replicas: Vec<usize>,
    /// Those whose copy is complete, the leader's included.
    pub in_sync: Vec<usize>,
}

/// Which topics are asked about.
#[derive(Clone, Copy)]
pub(super) enum Topics<'a> {
    None,
    One(&'a str),
    All,
}

pub(super) struct Metadata {
    /// Identity and port of each broker that may lead partitions.
    pub(super) brokers: Vec<(usize, u16)>,
    /// Topic and number of each partition.
    pub(super) partitions: Vec<(String, i32, Partition)>,
}

/// What the node that listens on `port` knows.
pub(super) fn metadata(port: u16, topics: Topics<'_>) -> io::Result<Metadata> {
    const METADATA: i16 = 3;
    const VERSION: i16 = 4;
    const CREATE_NONE: i8 = 0;

    let request = Request::new(METADATA, VERSION);
    let request = match topics {
        Topics::None => request.int32(0),
        Topics::One(name) => request.int32(1).string(name),
        Topics::All => request.int32(-1),
    };
    let mut answer = Answer::new(request.int8(CREATE_NONE).send(port)?);
    let _throttle_time = answer.int32()?;
    let brokers = answer.array(broker)?;
    let (_cluster_id, _controller) = (answer.string()?, answer.int32()?);
    let partitions = answer.array(topic)?.into_iter().flatten().collect();
    Ok(Metadata { brokers, partitions })
}

fn broker(answer: &mut Answer) -> io::Result<(usize, u16)> {
    let id = usize::try_from(answer.int32()?).unwrap_or(usize::MAX);
    let _host = answer.string()?;
    let port = u16::try_from(answer.int32()?).unwrap_or(0);
    let _rack = answer.string()?;
    Ok((id, port))
}

fn topic(answer: &mut Answer) -> io::Result<Vec<(String, i32, Partition)>> {
    let _error = answer.int16()?;
    let name = answer.string()?;
    let _is_internal = answer.int8()?;
    answer.array(|answer| {
        let _error = answer.int16()?;
        let number = answer.int32()?;
        let leader = usize::try_from(answer.int32()?).ok();
        let (replicas, in_sync) = (answer.array(node)?, answer.array(node)?);
        Ok((name.clone(), number, Partition { leader, replicas, in_sync }))
    })
}

fn node(answer: &mut Answer) -> io::Result<usize> {
    Ok(usize::try_from(answer.int32()?).unwrap_or(usize::MAX))
}

/// Whether the broker on `port` answers and lists itself. One that is starting is not listed until
/// its controller lets it lead partitions.
pub(super) fn lists_broker(port: u16) -> bool {
    metadata(port, Topics::None)
        .is_ok_and(|metadata| metadata.brokers.iter().any(|(_, listed)| *listed == port))
}

/// Asks the node on `port` which node is the coordinator of a transactional id. `None`: none is
/// now. The first one who asks has the cluster create the coordinators' topic.
pub(super) fn coordinator(port: u16, transactional_id: &str) -> io::Result<Option<usize>> {
    const FIND_COORDINATOR: i16 = 10;
    const VERSION: i16 = 1;
    const TRANSACTION: i8 = 1;

    let request = Request::new(FIND_COORDINATOR, VERSION);
    let mut answer = Answer::new(request.string(transactional_id).int8(TRANSACTION).send(port)?);
    let (_throttle_time, error) = (answer.int32()?, answer.int16()?);
    let _message = answer.string()?;
    let node = usize::try_from(answer.int32()?).ok();
    Ok(node.filter(|_| error == 0))
}
