//! The gauges of an outbox, for programs without a relay.

use std::fmt;

use sqlx::Pool;

use super::Outbox;
use super::deadline::{ANSWER_WITHIN, in_time};
use crate::error::OutboxError;
use crate::observe::Gauges;
use crate::store::error::StoreError;
use crate::store::status::{ParkedTopic, Status};
use crate::store::{Names, OutboxDatabase};

/// Sets the gauges of what the tables of an outbox say; [`Outbox::gauges`] returns it.
pub struct OutboxGauges<DB: OutboxDatabase> {
    outbox: Outbox<DB>,
    gauges: Gauges,
}

impl<DB: OutboxDatabase> Outbox<DB> {
    /// The gauges that relays set: backlog, oldest event, parked events, lanes with an owner, free
    /// leaves (see [`observe`](crate::observe#metrics)). A process that has no relay reports them
    /// by this, so that they do not end when all relays have: just then they matter most.
    ///
    /// ```no_run
    /// # async fn example(outbox: outbox::Outbox<sqlx::Sqlite>) {
    /// let mut gauges = outbox.gauges();
    /// loop {
    ///     if let Err(error) = gauges.set().await {
    ///         eprintln!("the outbox was not read: {error}");
    ///     }
    ///     tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    /// }
    /// # }
    /// ```
    pub fn gauges(&self) -> OutboxGauges<DB> {
        let meter = &self.core().meter;
        meter.register_service();
        OutboxGauges { outbox: self.clone(), gauges: Gauges::new(meter.clone()) }
    }
}

impl<DB: OutboxDatabase> OutboxGauges<DB> {
    /// Reads the tables and sets the gauges, `outbox_database_up` among them. Returns what
    /// [`Outbox::status`] returns.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn set(&mut self) -> Result<Status, OutboxError> {
        let meter = self.outbox.core().meter.clone();
        match self.read().await {
            Ok(status) => {
                meter.database_up(true);
                Ok(status)
            }
            Err(error) => {
                meter.database_up(false);
                self.gauges.not_read();
                Err(error)
            }
        }
    }

    async fn read(&mut self) -> Result<Status, OutboxError> {
        let status = self.outbox.status().await?;
        let parked = in_time("the parked events", ANSWER_WITHIN, async {
            parked_topics::<DB>(&status, self.outbox.pool(), &self.outbox.core().names).await
        });
        self.gauges.set(&status, &parked.await?);
        Ok(status)
    }
}

/// The topics with parked events, which are not asked for if there are none.
pub(crate) async fn parked_topics<DB: OutboxDatabase>(
    status: &Status,
    pool: &Pool<DB>,
    names: &Names,
) -> Result<Vec<ParkedTopic>, StoreError> {
    match status.parked + status.set_aside {
        0 => Ok(Vec::new()),
        _ => DB::parked_topics(pool, names).await,
    }
}

impl<DB: OutboxDatabase> fmt::Debug for OutboxGauges<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxGauges").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}
