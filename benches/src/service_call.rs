//! A service call through `#[transactional_outbox]`, next to the same SQL written by hand with sqlx
//! alone.
//!
//! The two take turns, in pairs; what is printed is the ratio of their throughputs in a pair.
//! `DATABASE_URL` names a Postgres whose database may be written to.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool, Postgres};
use tokio::task::JoinSet;
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.created", unlocked)]
struct OrderCreated<'a> {
    #[event(key)]
    customer: i64,
    total_cents: i64,
    items: &'a str,
}

/// About 300 bytes of payload.
const ITEMS: &str = "\
    two apples, three pears, a loaf of bread, half a pound of butter, a dozen eggs, some salt, a bottle of milk, \
    a pound of flour, four onions, a head of garlic, two lemons, a jar of honey, a bag of oats, and a bar of chocolate";

struct Service {
    outbox: Outbox<Postgres>,
}

impl Service {
    #[transactional_outbox(tx in self.outbox)]
    async fn annotated(&self, customer: i64) -> Result<i64, OutboxError> {
        let order = sqlx::query_scalar(INSERT_ORDER).bind(customer).fetch_one(&mut *tx).await?;
        tx.emit(OrderCreated { customer, total_cents: order, items: ITEMS })?;
        Ok(order)
    }
}

/// What a team without a library writes: one row, no array, no notification.
async fn by_hand(pool: &PgPool, customer: i64) -> Result<i64, Failure> {
    let mut tx = pool.begin().await?;
    let order = sqlx::query_scalar(INSERT_ORDER).bind(customer).fetch_one(&mut *tx).await?;
    let payload = serde_json::to_vec(&OrderCreated { customer, total_cents: order, items: ITEMS })?;
    sqlx::query(
        "insert into outbox_event (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8::json, $9, now())",
    )
    .bind((customer % 16) as i16)
    .bind(Uuid::now_v7())
    .bind("orders")
    .bind(customer.to_string().into_bytes())
    .bind("order.created")
    .bind(1)
    .bind("application/json")
    .bind("{}")
    .bind(payload)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(order)
}

const INSERT_ORDER: &str = "insert into orders (customer) values ($1) returning id";

/// Calls in one turn, and pairs of turns.
const CALLS: i64 = 200;
const PAIRS: usize = 150;

// On one thread, so that the time in which an idle worker of the runtime wakes up is not measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let url = std::env::var("DATABASE_URL")?;
    println!("A service call: insert an order, emit an event, commit (Postgres, fsync on)");
    for connections in [1, 8] {
        let pool = PgPoolOptions::new().max_connections(connections).connect(&url).await?;
        pool.execute("drop schema public cascade; create schema public").await?;
        pool.execute("create table orders (id bigserial primary key, customer bigint not null)")
            .await?;
        let outbox = Outbox::new(pool);
        outbox.migrate().await?;
        measure(outbox, i64::from(connections)).await?;
    }
    Ok(())
}

/// One turn: the calls, shared among as many tasks as there are connections. Returns calls per
/// second.
async fn turn<F, C>(tasks: i64, call: F) -> Result<f64, Failure>
where
    F: Fn(i64) -> C + Clone + Send + 'static,
    C: Future<Output = Result<i64, Failure>> + Send,
{
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let call = call.clone();
        running.spawn(async move {
            for n in 0..CALLS / tasks {
                call(task * CALLS + n).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(task) = running.join_next().await {
        task??;
    }
    Ok(CALLS as f64 / begin.elapsed().as_secs_f64())
}

async fn measure(outbox: Outbox<Postgres>, tasks: i64) -> Result<(), Failure> {
    let pool = outbox.pool().clone();
    let service = Arc::new(Service { outbox });
    let call_annotated = move |customer| {
        let service = Arc::clone(&service);
        async move { Ok(service.annotated(customer).await?) }
    };
    let call_by_hand = move |customer| {
        let pool = pool.clone();
        async move { by_hand(&pool, customer).await }
    };
    let mut ratios = Vec::with_capacity(PAIRS);
    let (mut annotated_rates, mut by_hand_rates) = (Vec::new(), Vec::new());
    // The first pair warms up.
    for pair in 0..=PAIRS {
        let (annotated, by_hand);
        // The order alternates, since the second one finds warm caches.
        if pair % 2 == 0 {
            annotated = turn(tasks, call_annotated.clone()).await?;
            by_hand = turn(tasks, call_by_hand.clone()).await?;
        } else {
            by_hand = turn(tasks, call_by_hand.clone()).await?;
            annotated = turn(tasks, call_annotated.clone()).await?;
        }
        if pair > 0 {
            ratios.push(annotated / by_hand);
            annotated_rates.push(annotated);
            by_hand_rates.push(by_hand);
        }
    }
    for samples in [&mut ratios, &mut annotated_rates, &mut by_hand_rates] {
        samples.sort_by(f64::total_cmp);
    }
    // The 95 % interval of a median, by order statistics: n/2 +- 0.98 sqrt(n).
    let around =
        |offset: f64| ratios[(PAIRS as f64 / 2.0 + offset * 0.98 * (PAIRS as f64).sqrt()) as usize];
    println!(
        "  {tasks} connection(s)   annotated {:6.0}/s   by hand {:6.0}/s   ratio {:.3}, 95 % between {:.3} and {:.3}   \
         budget 0.97 ({PAIRS} pairs of {CALLS})",
        annotated_rates[PAIRS / 2],
        by_hand_rates[PAIRS / 2],
        ratios[PAIRS / 2],
        around(-1.0),
        around(1.0),
    );
    Ok(())
}
