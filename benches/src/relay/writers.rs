//! Business transactions in two ways that take turns, in short slices of one process and one pool,
//! while relays run beside them.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, OutboxError, Relay, transactional_outbox};
use outbox_bench_report::{Beside, Pairs, Part, Plan, Round, Way};
use serde::Serialize;
use sqlx::types::time::OffsetDateTime;
use sqlx::{Executor, Postgres};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use crate::{Failure, ITEMS, bare, brokers, outbox as open};

const CUSTOMERS: u64 = 10_000;
/// At the beginning of a turn, not counted: what the turn before wrote is still being published.
const SETTLE: Duration = Duration::from_millis(50);
const INSERT_ORDER: &str = "insert into orders (customer) values ($1) returning id";
/// The statement of `outbox-runtime/src/store/postgres/write.rs`.
const INSERT_EVENT: &str = "\
insert into outbox_event (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                          kafka_partition)
values ($1, $2, $3, $4, $5, $6, $7, $8::json, $9, $10, $11)";
const INSERT_BARE: &str = "\
insert into bare_event (id, topic, key, name, version, content_type, headers, payload, occurred_at)
values ($1, $2, $3, $4, $5, $6, $7::json, $8, $9)";

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: u64,
    number: u64,
    #[event(header)]
    tenant: &'static str,
    items: &'static str,
}

impl OrderPlaced {
    fn new(customer: u64, order: i64) -> Self {
        Self { customer, number: order.unsigned_abs(), tenant: "example", items: ITEMS }
    }
}

#[derive(Clone)]
struct Service {
    outbox: Outbox<Postgres>,
    bare_loop: Arc<Notify>,
}

impl Service {
    async fn call(&self, way: Way, customer: u64) -> Result<(), Failure> {
        match way {
            Way::NoEvent => self.without_event(customer).await,
            Way::ByHand { rings } => self.by_hand(customer, rings).await,
            Way::BareTable { rings } => self.by_hand_for_bare_loop(customer, rings).await,
            Way::Outbox => Ok(self.annotated(customer).await?),
        }
    }

    #[transactional_outbox(tx in self.outbox)]
    async fn annotated(&self, customer: u64) -> Result<(), OutboxError> {
        let order: i64 =
            sqlx::query_scalar(INSERT_ORDER).bind(customer as i64).fetch_one(&mut *tx).await?;
        tx.emit(OrderPlaced::new(customer, order))?;
        Ok(())
    }

    async fn without_event(&self, customer: u64) -> Result<(), Failure> {
        let mut tx = self.outbox.pool().begin().await?;
        let _: i64 =
            sqlx::query_scalar(INSERT_ORDER).bind(customer as i64).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What the macro and the runtime do, statement by statement and value by value.
    async fn by_hand(&self, customer: u64, ring: bool) -> Result<(), Failure> {
        let mut tx = self.outbox.pool().begin_with("BEGIN READ WRITE").await?;
        let order: i64 =
            sqlx::query_scalar(INSERT_ORDER).bind(customer as i64).fetch_one(&mut *tx).await?;
        let event = OrderPlaced::new(customer, order);
        let key = customer.to_string().into_bytes();
        sqlx::query(INSERT_EVENT)
            .bind(lane(&key))
            .bind(Uuid::now_v7())
            .bind("orders")
            .bind(&key)
            .bind("order.placed")
            .bind(1)
            .bind("application/json")
            .bind(headers(&event)?)
            .bind(serde_json::to_vec(&event)?)
            .bind(OffsetDateTime::from(SystemTime::now()))
            .bind(None::<i32>)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        if ring {
            self.outbox.ring();
        }
        Ok(())
    }

    async fn by_hand_for_bare_loop(&self, customer: u64, ring: bool) -> Result<(), Failure> {
        let mut tx = self.outbox.pool().begin().await?;
        let order: i64 =
            sqlx::query_scalar(INSERT_ORDER).bind(customer as i64).fetch_one(&mut *tx).await?;
        let event = OrderPlaced::new(customer, order);
        sqlx::query(INSERT_BARE)
            .bind(Uuid::now_v7())
            .bind("orders")
            .bind(customer.to_string().into_bytes())
            .bind("order.placed")
            .bind(1)
            .bind("application/json")
            .bind(headers(&event)?)
            .bind(serde_json::to_vec(&event)?)
            .bind(OffsetDateTime::from(SystemTime::now()))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        if ring {
            self.bare_loop.notify_one();
        }
        Ok(())
    }
}

fn headers(event: &OrderPlaced) -> Result<String, serde_json::Error> {
    serde_json::to_string(&BTreeMap::from([("tenant", event.tenant)]))
}

/// The lane in which the outbox has the key: FNV-1a.
fn lane(key: &[u8]) -> i16 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % 16) as i16
}

pub(crate) async fn measure(
    ways: [Way; 2],
    connections: u32,
    beside: Beside,
    plan: Plan,
) -> Result<Pairs, Failure> {
    let service = Service { outbox: open(connections + 2).await?, bare_loop: Arc::default() };
    let orders =
        "create table if not exists orders (id bigserial primary key, customer bigint not null)";
    service.outbox.pool().execute(orders).await?;
    bare::create_tables(service.outbox.pool()).await?;
    let publishing = Publishing::start(beside, &service)?;
    let mut turns = Turns { service, connections, plan, calls: 0 };
    // The first round warms up.
    turns.round(ways).await?;
    let mut rounds = Vec::new();
    while !plan.is_done(&rounds) {
        rounds.push(turns.round(ways).await?);
    }
    publishing.end().await?;
    Ok(Pairs { rounds })
}

struct Turns {
    service: Service,
    connections: u32,
    plan: Plan,
    /// Those of all turns so far.
    calls: u64,
}

impl Turns {
    /// The first way, the second one twice, and the first again.
    async fn round(&mut self, [first, second]: [Way; 2]) -> Result<Round, Failure> {
        let a = self.turn(first).await?;
        let b = self.turn(second).await?.and(self.turn(second).await?);
        let a = a.and(self.turn(first).await?);
        Ok(Round { first: a.rate()?, second: b.rate()? })
    }

    /// Until the last of its transactions has ended.
    async fn turn(&mut self, way: Way) -> Result<Turn, Failure> {
        let next = Arc::new(AtomicU64::new(self.calls));
        let counted = Arc::new(AtomicU64::new(0));
        let begin = Instant::now() + SETTLE;
        let end = begin + Duration::from_millis(self.plan.slice_millis);
        let mut writers = JoinSet::new();
        for _ in 0..self.connections {
            let service = self.service.clone();
            let (next, counted) = (Arc::clone(&next), Arc::clone(&counted));
            writers.spawn(async move {
                loop {
                    let begun = Instant::now();
                    if begun >= end {
                        return Ok::<_, Failure>(());
                    }
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    service.call(way, n % CUSTOMERS).await?;
                    if begun >= begin {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer??;
        }
        let took = begin.elapsed();
        self.calls = next.load(Ordering::Relaxed);
        Ok(Turn { calls: counted.load(Ordering::Relaxed), took })
    }
}

struct Turn {
    calls: u64,
    took: Duration,
}

impl Turn {
    fn and(self, other: Self) -> Self {
        Self { calls: self.calls + other.calls, took: self.took + other.took }
    }

    fn rate(&self) -> Result<f64, Failure> {
        match self.calls {
            0 => Err("no transaction was committed".into()),
            calls => Ok(calls as f64 / self.took.as_secs_f64()),
        }
    }
}

/// Who publishes while the writers write.
enum Publishing {
    Nobody,
    Process(Child),
    Here {
        stop: oneshot::Sender<()>,
        relay: JoinHandle<Result<(), OutboxError>>,
        bare_loop: JoinHandle<Result<(), Failure>>,
    },
}

impl Publishing {
    fn start(beside: Beside, service: &Service) -> Result<Self, Failure> {
        Ok(match beside {
            Beside::Nobody => Self::Nobody,
            Beside::RelayProcess => Self::Process(
                Command::new(std::env::current_exe()?)
                    .arg(Part::Relay.argument())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()?,
            ),
            Beside::RelayAndBareLoop => {
                let relay = Relay::new(service.outbox.clone(), KafkaPublisher::new(brokers()?)?);
                let (stop, stopped) = oneshot::channel();
                let bell = Arc::clone(&service.bare_loop);
                Self::Here {
                    stop,
                    relay: tokio::spawn(relay.run(async { _ = stopped.await })),
                    bare_loop: tokio::spawn(bare::run(service.outbox.pool().clone(), bell, |_| {})),
                }
            }
        })
    }

    /// An error if one of them had ended before.
    async fn end(self) -> Result<(), Failure> {
        match self {
            Self::Nobody => {}
            Self::Process(relay) => {
                // This closes its input.
                let ended = relay.wait_with_output()?;
                if !ended.status.success() {
                    return Err(format!("the relay failed: {}", ended.status).into());
                }
            }
            Self::Here { stop, relay, bare_loop } => {
                if bare_loop.is_finished() {
                    return bare_loop.await?.and(Err("the bare loop has ended".into()));
                }
                bare_loop.abort();
                drop(stop);
                relay.await??;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_it_is_the_statement_of_the_runtime_and_its_lane() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let runtime = include_str!("../../../outbox-runtime/src/store/postgres/write.rs");
        let statement = words(&INSERT_EVENT.replace("outbox_event", "{event}"));
        assert!(words(runtime).contains(&format!("{statement}\";")), "{statement}");
        // Those of `the_lane_of_a_key_never_changes`.
        let keys = ["", "a", "customer-1", "customer-2", "\0"];
        assert_eq!(keys.map(|key| lane(key.as_bytes())), [1, 0, 12, 1, 3]);
    }
}
