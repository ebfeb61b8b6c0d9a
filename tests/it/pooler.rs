//! Services behind a transaction pooler, PgBouncer, which gives each transaction another session of
//! the server.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::support::relays::{RunningRelay, drain_to, new_relay};
use crate::support::{OrderCreated, by_customer, commit, migrated, within_a_minute};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxError, OutboxTx, transactional_outbox};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres};
use xtask::ScratchDir;
use xtask::servers::{PgBouncer, PgOptions, PgVersion};

const SERVICES: i64 = 16;
const ORDERS: i64 = 20;

struct Servers {
    postgres: xtask::servers::Postgres,
    pooler: PgBouncer,
    _directory: ScratchDir,
}

fn servers() -> Servers {
    let directory = ScratchDir::new("pooler").unwrap();
    let postgres =
        xtask::servers::Postgres::start(PgVersion::V15, directory.path(), PgOptions::default())
            .unwrap();
    let pooler = PgBouncer::start(directory.path(), &postgres).unwrap();
    Servers { postgres, pooler, _directory: directory }
}

async fn pool(url: &str, connections: u32) -> PgPool {
    // What the README says of sqlx's prepared statements.
    let options = url.parse::<PgConnectOptions>().unwrap().statement_cache_capacity(0);
    PgPoolOptions::new().max_connections(connections).connect_with(options).await.unwrap()
}

#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("no such customer")]
    NoCustomer,
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

#[transactional_outbox(tx in outbox)]
async fn order(outbox: &Outbox<Postgres>, customer: &str, n: i64) -> Result<(), OrderError> {
    tx.emit(OrderCreated::new(customer, n))?;
    // A part that fails, with its event, and leaves the rest.
    let refused = remark(tx, customer).await;
    assert!(matches!(refused, Err(OrderError::NoCustomer)));
    if n == ORDERS { Err(OrderError::NoCustomer) } else { Ok(()) }
}

#[transactional_outbox(tx in outer)]
async fn remark(outer: &mut OutboxTx<'_, Postgres>, customer: &str) -> Result<(), OrderError> {
    tx.emit(OrderCreated::new(customer, -1))?;
    Err(OrderError::NoCustomer)
}

fn customer(service: i64) -> String {
    format!("customer {service}")
}

#[tokio::test(flavor = "multi_thread")]
async fn services_behind_a_transaction_pooler_emit_and_wake_the_relay() {
    let servers = servers();
    let direct = migrated(Outbox::new(pool(servers.postgres.url(), 2).await)).await;
    let kafka = MemoryPublisher::new();
    // It hears of events by the doorbell, or never.
    let relay = new_relay(&direct, kafka.clone()).poll_interval(Duration::from_secs(3600));
    let relay = RunningRelay::start(relay);
    let services: Vec<_> = (0..SERVICES)
        .map(|service| {
            let url = servers.pooler.url().to_owned();
            tokio::spawn(async move {
                let outbox = Outbox::new(pool(&url, 2).await);
                let customer = customer(service);
                for n in 0..=ORDERS {
                    let placed = order(&outbox, &customer, n).await;
                    assert_eq!(placed.is_ok(), n < ORDERS, "{placed:?}");
                }
                // Its doorbell rings after the commit, and ends with it.
                outbox
            })
        })
        .collect();
    let mut outboxes = Vec::new();
    for service in services {
        outboxes.push(service.await.unwrap());
    }
    let published = within_a_minute(kafka.wait_for((SERVICES * ORDERS) as usize)).await;
    let due = (0..SERVICES).map(|service| (customer(service), (0..ORDERS).collect()));
    assert_eq!(by_customer(&published), due.collect::<BTreeMap<_, Vec<_>>>());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_behind_a_transaction_pooler_says_that_it_needs_a_direct_connection() {
    let servers = servers();
    let outbox = migrated(Outbox::new(pool(servers.pooler.url(), 4).await)).await;
    let kafka = MemoryPublisher::new();
    let relay = new_relay(&outbox, kafka.clone()).poll_interval(Duration::from_millis(10));
    let relay = RunningRelay::start(relay);
    // With the relay alone, the pooler has no reason to give it another session.
    let services: Vec<_> = (0..4)
        .map(|service| {
            let outbox = outbox.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    commit(&outbox, [OrderCreated::new(customer(service), n)]).await;
                }
            })
        })
        .collect();
    let error = relay.ended().await.unwrap_err();
    // It left nothing behind in their sessions, such as a LISTEN, by which theirs would fail.
    commit(&outbox, (0..100).map(|n| OrderCreated::new("later", n))).await;
    for service in services {
        service.abort();
        assert!(service.await.unwrap_err().is_cancelled(), "the services still ran");
    }
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("transaction pooler"), "{error}");
    // Nothing is lost: a relay with a connection of its own publishes what that one had not saved.
    let direct = Outbox::new(pool(servers.postgres.url(), 2).await);
    let committed: i64 = sqlx::query_scalar("select count(*) from outbox_event")
        .fetch_one(direct.pool())
        .await
        .unwrap();
    drain_to(&direct, kafka.clone()).await;
    let ids: HashSet<_> = kafka.published().iter().map(|record| record.id).collect();
    assert_eq!(ids.len() as i64, committed);
}
