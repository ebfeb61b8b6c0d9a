//! What must not be left behind in a database: connections that the pool lacks, and transactions
//! that are open.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sqlx::Pool;
use sqlx::pool::PoolConnection;
use tokio::time::{Instant, sleep, timeout};

use crate::outbox::Outbox;
use crate::store::OutboxDatabase;

/// Longest wait until all is as it was: a pool takes its connections back in tasks of its own, and
/// a server learns a little later that one was closed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for connections that the test's own preparations have just given back.
const SETTLED_WITHIN: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(2);

/// The state to compare with: before the test.
pub(in crate::testing) struct Leftovers<DB: OutboxDatabase> {
    pool: Pool<DB>,
    /// Connections that were given out.
    given_out: u32,
    /// Transactions that were open.
    open: Vec<String>,
    /// Whether a future of the test is being polled.
    polling: Arc<AtomicBool>,
    /// Keeps a database in memory: a call that is dropped may close its connection.
    _keeper: Option<DB::Connection>,
}

impl<DB: OutboxDatabase> Leftovers<DB> {
    pub(in crate::testing) async fn before(outbox: &Outbox<DB>) -> Result<Self, String> {
        let pool = outbox.pool().clone();
        let (polling, _keeper) = (Arc::default(), DB::keep(&pool).await);
        let mut before = Self { pool, given_out: 0, open: Vec::new(), polling, _keeper };
        // A relay that runs on the same pool may keep some.
        _ = before.all_returned(Instant::now() + SETTLED_WITHIN).await;
        before.given_out = given_out(&before.pool);
        before.open = before.open_transactions().await?;
        Ok(before)
    }

    /// Whether a future is being polled: set by the future, and read by connections that hold their
    /// answers as long.
    pub(in crate::testing) fn polling(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.polling)
    }

    /// Opens connections until the pool has `count`, or as many as it may have.
    pub(in crate::testing) async fn open_connections(&self, count: usize) -> Result<(), String> {
        let most = self.pool.options().get_max_connections() as usize;
        let mut connections = Vec::new();
        while connections.len() < count.min(most.saturating_sub(self.given_out as usize)) {
            connections.push(self.connection().await?);
        }
        drop(connections);
        self.all_returned(Instant::now() + PATIENCE).await
    }

    async fn connection(&self) -> Result<PoolConnection<DB>, String> {
        let connection = timeout(PATIENCE, self.pool.acquire()).await;
        let connection = connection.map_err(|_| unusable(&"it gives no connection"))?;
        connection.map_err(|error| unusable(&error))
    }

    /// Waits until nothing is left. The error says what is.
    pub(in crate::testing) async fn none(&self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        self.all_returned(until).await?;
        // Those that are open each time: others are of what runs beside the test.
        let mut always_open: Option<Vec<String>> = None;
        loop {
            let mut open = self.open_transactions().await?;
            open.retain(|transaction| !self.open.contains(transaction));
            if let Some(before) = &always_open {
                open.retain(|transaction| before.contains(transaction));
            }
            self.all_returned(Instant::now() + PATIENCE).await?;
            if open.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(format!(
                    "a transaction was left open: {}. It holds its locks until its connection is closed, and what is run \
                     on that connection next becomes part of it",
                    open.join("; ")
                ));
            }
            always_open = Some(open);
            sleep(PAUSE).await;
        }
    }

    async fn all_returned(&self, until: Instant) -> Result<(), String> {
        loop {
            let now = given_out(&self.pool);
            if now <= self.given_out {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(format!(
                    "{} of the {} connections of the pool did not come back to it: something still holds them",
                    now - self.given_out,
                    self.pool.size()
                ));
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks every connection that the pool has.
    async fn open_transactions(&self) -> Result<Vec<String>, String> {
        let mut connections = vec![self.connection().await?];
        connections.extend(std::iter::from_fn(|| self.pool.try_acquire()));
        let mut open = Vec::new();
        for connection in &mut connections {
            let found = timeout(PATIENCE, DB::open_transactions(connection)).await;
            let found = found.map_err(|_| unusable(&"a connection does not answer"))?;
            open.extend(found.map_err(|error| unusable(&error))?);
            let held = DB::hold_answers(connection, self.polling()).await;
            held.map_err(|error| unusable(&error))?;
        }
        Ok(open)
    }
}

fn unusable(error: &dyn fmt::Display) -> String {
    format!("the pool is not usable any more: {error}")
}

fn given_out<DB: OutboxDatabase>(pool: &Pool<DB>) -> u32 {
    pool.size().saturating_sub(u32::try_from(pool.num_idle()).unwrap_or(u32::MAX))
}
