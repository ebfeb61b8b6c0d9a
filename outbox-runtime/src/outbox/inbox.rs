//! What an operator asks of the inbox, and of the keys that wait.

use std::time::Duration;

use super::Outbox;
use crate::durations::{LONGEST_KEEPING, within};
use crate::error::OutboxError;
use crate::store::OutboxDatabase;
use crate::store::inbox::{InboxStats, WaitingKeys};
use crate::store::tx_options::TxOptions;

/// Time after which the database ends one of these statements.
const LIMIT: Duration = Duration::from_secs(60);

impl<DB: OutboxDatabase> Outbox<DB> {
    /// What each consumer group remembers as handled, by group. It counts up to
    /// [`InboxStats::COUNTED`] index entries for each.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn inbox_stats(&self) -> Result<Vec<InboxStats>, OutboxError> {
        let mut tx = self.begin_with(TxOptions::of_consumer(LIMIT)).await?;
        let stats = DB::inbox_stats(&mut tx, &self.core().names).await?;
        tx.rollback().await?;
        Ok(stats)
    }

    /// The keys whose events wait behind one in a retry topic, by group and topic.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn waiting_keys(&self) -> Result<Vec<WaitingKeys>, OutboxError> {
        let mut tx = self.begin_with(TxOptions::of_consumer(LIMIT)).await?;
        let waiting = DB::waiting_keys(&mut tx, &self.core().names).await?;
        tx.rollback().await?;
        Ok(waiting)
    }

    /// Number of events that [`forget_handled`](Self::forget_handled) would forget, counted up to
    /// [`InboxStats::COUNTED`].
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn handled_longer_ago(
        &self,
        group: &str,
        retention: Duration,
    ) -> Result<u64, OutboxError> {
        let retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        let mut tx = self.begin_with(TxOptions::of_consumer(LIMIT)).await?;
        let count = DB::handled_before(&mut tx, &self.core().names, group, retention).await?;
        tx.rollback().await?;
        Ok(count)
    }
}
