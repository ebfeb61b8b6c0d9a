//! A call, dropped at each of its awaits in turn.

mod leftovers;
mod run;
mod statements;
mod stepped;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

pub(super) use leftovers::Leftovers;
use run::Run;
pub(super) use stepped::{Ended, Stepped};

use super::{Emitted, Finding};
use crate::outbox::Outbox;
use crate::store::OutboxDatabase;

/// Drops the future of `call` at its first await, at its second, and so on until it runs to its
/// end, and all of that again until it was dropped at no new place in three rounds. It is what
/// happens to a request whose client hangs up, to a `select!` and to a time-out, and it shows what
/// a crash would leave behind.
///
/// After each call, dropped or not, [`check`](AtEveryAwait::check) compares what is committed with
/// the events. By itself the test checks that
///
/// - no transaction is left open;
/// - the connections are back in the pool, and can be used;
/// - a dropped call has left none of its events, or all of them.
///
/// ```
/// # mod example {
/// # use outbox::{DomainEvent, Outbox, transactional_outbox, OutboxError};
/// # #[derive(serde::Serialize, DomainEvent)]
/// # #[event(topic = "orders")]
/// # struct OrderPlaced { #[event(key)] customer: String }
/// struct Orders {
///     outbox: Outbox<sqlx::Sqlite>,
/// }
///
/// impl Orders {
///     #[transactional_outbox(tx in self.outbox)]
///     async fn place(&self, customer: &str) -> Result<(), OutboxError> {
///         sqlx::query("insert into orders (customer) values ($1)")
///             .bind(customer)
///             .execute(&mut *tx)
///             .await?;
///         tx.emit(OrderPlaced { customer: customer.to_owned() })?;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
/// # let outbox = Outbox::new(pool.connect("sqlite::memory:").await?);
/// # outbox.migrate().await?;
/// # sqlx::query("create table orders (customer text)").execute(outbox.pool()).await?;
/// # let orders = Orders { outbox };
/// use outbox::testing::at_every_await;
///
/// at_every_await(&orders.outbox, || orders.place("alice"))
///     .check(async |emitted| {
///         let rows: i64 = sqlx::query_scalar("select count(*) from orders")
///             .fetch_one(orders.outbox.pool())
///             .await
///             .unwrap();
///         assert_eq!(rows, emitted.len() as i64);
///     })
///     .await?;
/// # Ok(())
/// # }
/// # }
/// # fn main() { example::main().unwrap() }
/// ```
///
/// The call must succeed each time that it is not dropped: if it cannot do the same thing twice,
/// let the closure count, and give it the number. A call may wait more often than its code has
/// `.await`s, since a query is several waits; operations on locks and channels that could go on at
/// once wait here as well. A Postgres on the same machine may have answered before it is waited
/// for. The call is not dropped there in that round, and most likely is in another one.
pub fn at_every_await<DB: OutboxDatabase, C>(
    outbox: &Outbox<DB>,
    call: C,
) -> AtEveryAwait<'_, DB, C> {
    AtEveryAwait {
        outbox,
        call,
        limits: Limits {
            within: Duration::from_secs(60),
            awaits: 1_000,
            several_transactions: false,
        },
    }
}

/// The settings of [`at_every_await`]. [`check`](Self::check) runs it.
#[must_use = "nothing is called before `.check(…).await`"]
pub struct AtEveryAwait<'o, DB: OutboxDatabase, C> {
    outbox: &'o Outbox<DB>,
    call: C,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    within: Duration,
    awaits: u32,
    several_transactions: bool,
}

/// What [`at_every_await`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// Calls that were dropped.
    pub dropped: u32,
    /// Calls that ran to their end.
    pub completed: u32,
    /// Times that the longest call waited.
    pub awaits: u32,
    /// Statements that were under way when a call was dropped, as far as sqlx logs them in the task
    /// that runs them: those of Postgres, without `BEGIN`.
    pub under_way: BTreeSet<String>,
}

impl<DB: OutboxDatabase, C> AtEveryAwait<'_, DB, C> {
    /// Longest time for all calls together. Default: a minute. A call that never ends is found by
    /// it.
    pub fn within(mut self, time: Duration) -> Self {
        self.limits.within = time;
        self
    }

    /// Most times that a call may wait. Default: 1,000.
    pub fn at_most(mut self, awaits: u32) -> Self {
        self.limits.awaits = awaits;
        self
    }

    /// Allows a dropped call to leave a part of its events: it is meant to make several
    /// transactions.
    pub fn in_several_transactions(mut self) -> Self {
        self.limits.several_transactions = true;
        self
    }

    /// Makes the calls. After each, calls `check` with the events that the calls have emitted so
    /// far; let it compare them with the business rows, and panic (`assert_eq!`) if they do not
    /// fit.
    ///
    /// # Errors
    /// The first thing that was found, and at which await the call was dropped then.
    pub async fn check<T, E>(self, check: impl AsyncFnMut(&Emitted)) -> Result<Dropped, Finding>
    where
        C: AsyncFnMut() -> Result<T, E>,
        E: fmt::Debug,
    {
        let Self { outbox, call, limits } = self;
        let run = Box::pin(Run::new(outbox, limits)).await?;
        Box::pin(run.all(call, check)).await
    }
}

impl<DB: OutboxDatabase, C> fmt::Debug for AtEveryAwait<'_, DB, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtEveryAwait").field("limits", &self.limits).finish_non_exhaustive()
    }
}
