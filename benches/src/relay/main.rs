//! What `cargo xtask bench relay` measures: the relay and its contenders. Each contender is
//! a process of its own, so that its processor time and memory are its own. Prints one JSON object.

mod bare;
mod consume;
mod debezium;
mod drain;
mod fleet;
mod latency;
mod raw;
mod topic;
mod writers;

use std::error::Error;

use outbox::{DomainEvent, Outbox};
use serde::{Deserialize, Serialize};
use sqlx::Postgres;
use sqlx::postgres::PgPoolOptions;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

pub(crate) const TOPIC: &str = "orders";

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.created")]
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text =
        |place: usize| arguments.get(place).map(String::as_str).ok_or("an argument is missing");
    let number = |place: usize| -> Result<u64, Failure> { Ok(text(place)?.parse::<u64>()?) };
    match arguments.first().map(String::as_str) {
        Some("fill") => drain::fill(number(1)?).await,
        Some("fill-outbox") => drain::fill_outbox(number(1)?).await,
        Some("drain-raw") => raw::drain(number(1)?).await,
        Some("drain-bare") => bare::drain(number(1)?).await,
        Some("drain-outbox") => drain::drain(number(1)?).await,
        Some("latency-bare") => latency::bare(number(1)?, number(2)?).await,
        Some("latency-outbox") => {
            latency::outbox(number(1)?, number(2)?, arguments.get(3).map_or("", String::as_str))
                .await
        }
        Some("latency-debezium") => latency::debezium(number(1)?, number(2)?).await,
        Some("debezium-prepare") => debezium::prepare(text(1)?).await,
        Some("debezium-fill") => debezium::fill(number(1)?).await,
        Some("consume-fill") => consume::fill(number(1)?).await,
        Some("consume-hand") => consume::by_hand(number(1)?).await,
        Some("consume-outbox") => consume::outbox_consumer(number(1)?, number(2)?).await,
        Some("wait") => topic::wait(text(1)?, number(2)?).await,
        Some("run") => fleet::run().await,
        Some("scale-out") => fleet::scale_out(number(1)?, number(2)?).await,
        Some("sizes") => fleet::sizes(false).await,
        Some("sizes-reclaimed") => fleet::sizes(true).await,
        Some("idle") => fleet::idle(number(1)?).await,
        Some("writers") => writers::measure(text(1)?, number(2)?, number(3)?).await,
        _ => Err("which part? `cargo xtask bench relay` knows".into()),
    }
}
