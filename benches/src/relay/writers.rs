//! Business transactions on Postgres, while relays run beside them.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::Arc;
use std::time::SystemTime;

use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, OutboxError, Relay, transactional_outbox};
use outbox_bench_report::{Beside, Pairs, Plan, Way};
use serde::Serialize;
use sqlx::types::time::OffsetDateTime;
use sqlx::{Executor, Postgres};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::turns::{Business, in_turns};
use crate::{Failure, ITEMS, bare, brokers, fleet, outbox as open};

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
#[event(topic = "orders", name = "order.placed", unlocked)]
pub(crate) struct OrderPlaced {
    #[event(key)]
    customer: u64,
    number: u64,
    #[event(header)]
    tenant: &'static str,
    items: &'static str,
}

impl OrderPlaced {
    pub(crate) fn new(customer: u64, order: u64) -> Self {
        Self { customer, number: order, tenant: "example", items: ITEMS }
    }
}

#[derive(Clone)]
struct Service {
    outbox: Outbox<Postgres>,
    bare_loop: Arc<Notify>,
}

impl Business for Service {
    async fn call(&self, way: Way, customer: u64) -> Result<(), Failure> {
        match way {
            Way::NoEvent => self.without_event(customer).await,
            Way::ByHand { rings } => self.by_hand(customer, rings).await,
            Way::BareTable { rings } => self.by_hand_for_bare_loop(customer, rings).await,
            Way::Outbox => Ok(self.annotated(customer).await?),
        }
    }
}

impl Service {
    #[transactional_outbox(tx in self.outbox)]
    async fn annotated(&self, customer: u64) -> Result<(), OutboxError> {
        let order: i64 =
            sqlx::query_scalar(INSERT_ORDER).bind(customer as i64).fetch_one(&mut *tx).await?;
        tx.emit(OrderPlaced::new(customer, order.unsigned_abs()))?;
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
        let event = OrderPlaced::new(customer, order.unsigned_abs());
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
        let event = OrderPlaced::new(customer, order.unsigned_abs());
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

pub(crate) fn headers(event: &OrderPlaced) -> Result<String, serde_json::Error> {
    serde_json::to_string(&BTreeMap::from([("tenant", event.tenant)]))
}

/// The lane in which the outbox has the key: FNV-1a.
pub(crate) fn lane(key: &[u8]) -> i16 {
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
    let publishing = Publishing::start(beside, &service).await?;
    let pairs = in_turns(service, ways, connections, plan).await?;
    publishing.end().await?;
    Ok(pairs)
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
    async fn start(beside: Beside, service: &Service) -> Result<Self, Failure> {
        Ok(match beside {
            Beside::Nobody => Self::Nobody,
            Beside::RelayProcess => Self::Process(fleet::started(&service.outbox).await?),
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
            Self::Process(relay) => drop(fleet::end(relay)?),
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
