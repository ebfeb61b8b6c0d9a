//! What `cargo xtask bench relay` measures: the relay and its contenders. Each contender is
//! a process of its own, so that its processor time and memory are its own.

mod bare;
mod consume;
mod debezium;
mod drain;
mod exactly_once;
mod fleet;
mod inbox;
mod latency;
mod letters;
mod mysql;
mod raw;
mod tenths;
mod topic;
mod traces;
mod turns;
mod writers;

use std::error::Error;

use outbox::{DomainEvent, Outbox};
use outbox_bench_report::{Consumer, Contender, Drained, Part, print};
use serde::{Deserialize, Serialize};
use sqlx::Postgres;
use sqlx::postgres::PgPoolOptions;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

pub(crate) const TOPIC: &str = "orders";

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.created", unlocked)]
pub(crate) struct OrderCreated {
    #[event(key)]
    pub(crate) customer: u64,
    pub(crate) number: u64,
    pub(crate) items: String,
}

impl OrderCreated {
    /// The payload has about 300 bytes.
    pub(crate) fn new(customer: u64, number: u64) -> Self {
        Self { customer, number, items: ITEMS.to_owned() }
    }
}

const ITEMS: &str = "\
    two apples, three pears, a loaf of bread, half a pound of butter, a dozen eggs, some salt, a bottle of milk, \
    a pound of flour, four onions, a head of garlic, two lemons, a jar of honey, a bag of oats, and a bar of chocolate";

pub(crate) async fn outbox(connections: u32) -> Result<Outbox<Postgres>, Failure> {
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .connect(&std::env::var("DATABASE_URL")?)
        .await?;
    Ok(Outbox::new(pool))
}

pub(crate) fn brokers() -> Result<String, Failure> {
    Ok(std::env::var("KAFKA_BROKERS")?)
}

/// The most memory that this process has had, in MiB.
pub(crate) fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let part = Part::of_arguments(std::env::args())?;
    if mysql::is_asked_for()? {
        return mysql::run(part).await;
    }
    match part {
        Part::Fill { events } => print(&drain::fill(events).await?),
        Part::FillOutbox { events } => print(&drain::fill_outbox(events).await?),
        Part::FillSpread { events, spread } => print(&drain::fill_spread(events, spread).await?),
        Part::FillTraced { events } => print(&traces::fill(events).await?),
        Part::DrainTraced { tracing, events } => print(&traces::drain(tracing, events).await?),
        Part::Drain { contender, events } => print(&drained_by(contender, events).await?),
        Part::DrainByRelays { relays, events, idle_seconds } => {
            print(&fleet::drain(relays, events, idle_seconds).await?)
        }
        Part::Relay => print(&fleet::run(outbox(2).await?).await?),
        Part::Latency { contender, load, disturbance } => {
            print(&latency::measure(contender, load, disturbance).await?)
        }
        Part::Write { ways, connections, beside, plan } => {
            print(&writers::measure(ways, connections, beside, plan).await?)
        }
        Part::FillTopic { events } => print(&consume::fill(events).await?),
        Part::Handle { consumer: Consumer::ByHand, events } => {
            print(&consume::by_hand(events).await?)
        }
        Part::Handle { consumer: Consumer::ByHandInTasks { tasks }, events } => {
            print(&consume::tasks::by_hand(events, tasks).await?)
        }
        Part::Handle { consumer: Consumer::Outbox { concurrency, shared }, events } => {
            print(&consume::by_outbox(events, concurrency, shared).await?)
        }
        Part::FillInbox { from, to, rows } => print(&inbox::fill(from, to, rows).await?),
        Part::HandleAmong { concurrency, events, rows } => {
            print(&inbox::handle(concurrency, events, rows).await?)
        }
        Part::FillLetters { letters } => print(&letters::fill(letters).await?),
        Part::Letters { by, letters } => print(&letters::measure(by, letters).await?),
        Part::PrepareDebezium { slot } => print(&debezium::prepare(&slot).await?),
        Part::FillDebezium { events } => print(&debezium::fill(events).await?),
        Part::Wait { topic, until } => print(&topic::wait(&topic, until).await?),
        Part::Size { reclaim } => print(&fleet::sizes(reclaim).await?),
        Part::Watch { looks } => print(&fleet::watch(looks).await?),
        Part::Waves => print(&exactly_once::waves().await?),
        Part::Idle { seconds } => print(&fleet::idle(seconds).await?),
    }?;
    Ok(())
}

async fn drained_by(contender: Contender, events: u64) -> Result<Drained, Failure> {
    match contender {
        Contender::ProducerAlone => raw::drain(events).await,
        Contender::BareLoop => bare::drain(events).await,
        Contender::Outbox => drain::drain(events).await,
        Contender::ExactlyOnce => exactly_once::drain(events).await,
        Contender::OutboxElsewhere | Contender::Debezium | Contender::Peer => {
            Err("it has a program of its own".into())
        }
    }
}
