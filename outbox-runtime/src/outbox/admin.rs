//! What an operator asks of an outbox: how far its relays are, and what to publish again.

use std::time::Duration;

use super::Outbox;
use super::deadline::{ANSWER_WITHIN, in_time};
use crate::durations::{LONGEST_KEEPING, within};
use crate::error::OutboxError;
use crate::store::OutboxDatabase;
use crate::store::admin::{Replay, ReplayPlan};
use crate::store::diagnosis::Diagnosis;
use crate::store::status::Status;
use crate::store::tx_options::TxOptions;

impl<DB: OutboxDatabase> Outbox<DB> {
    /// How far the relays are, and which they are. The cost does not grow with the backlog: see
    /// [`Status::COUNTED_OF_LANE`].
    ///
    /// # Errors
    /// If the database refuses, its tables are missing, or it does not answer within 5 s, however
    /// long the pool would wait.
    pub async fn status(&self) -> Result<Status, OutboxError> {
        self.status_within(ANSWER_WITHIN).await
    }

    /// As [`status`](Self::status), with another time to wait for the answer.
    ///
    /// # Errors
    /// If the database refuses, its tables are missing, or it does not answer in time.
    pub async fn status_within(&self, within: Duration) -> Result<Status, OutboxError> {
        // On the heap: several kilobytes would be part of the future of each caller.
        let status = Box::pin(DB::status(self.pool(), &self.core().names));
        in_time("the status", within, status).await
    }

    /// Facts on the database that an operator should know: its limits, what this user may do, what
    /// holds it back. `outbox doctor` judges them.
    ///
    /// # Errors
    /// If the database refuses, or does not answer within 5 s. That its tables are missing is none.
    pub async fn diagnose(&self) -> Result<Diagnosis, OutboxError> {
        let diagnosis = Box::pin(DB::diagnose(self.pool(), &self.core().names));
        in_time("the diagnosis", ANSWER_WITHIN, diagnosis).await
    }

    /// Forgets what the consumer group `group` handled longer ago than `retention`. Running
    /// consumers do this regularly; call it for handlers that no [`Consumer`](crate::consume) runs.
    /// Returns the number of events.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn forget_handled(
        &self,
        group: &str,
        retention: Duration,
    ) -> Result<u64, OutboxError> {
        /// Most rows in one statement, so that none holds locks for long.
        const AT_ONCE: u32 = 5_000;
        let names = &self.core().names;
        let retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        let mut forgotten = 0;
        loop {
            let mut tx = self.begin_with(TxOptions::of_consumer(Duration::from_secs(60))).await?;
            let now = DB::forget_inbox(&mut tx, names, group, retention, AT_ONCE).await?;
            tx.commit().await?;
            forgotten += now;
            if now < u64::from(AT_ONCE) {
                return Ok(forgotten);
            }
        }
    }

    /// Takes back the space of events that are published and older than `retention`. A running
    /// relay does this every few seconds; call it in jobs, or when all relays are stopped. Returns
    /// the number of events. On Postgres, space comes back in blocks of about a million events.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn reclaim(&self, retention: Duration) -> Result<u64, OutboxError> {
        let retention = within(retention, Duration::ZERO, LONGEST_KEEPING);
        Ok(DB::reclaim(self.pool(), &self.core().names, retention).await?)
    }

    /// Publishes retained events again, with their ids, after all that is in the outbox now; a
    /// consumer skips those whose ids it remembers. Returns their number. They are copied in one
    /// transaction, in their order, each once, even if it was replayed before. Events that are
    /// still parked are left out. Discarded events are replayed only [by id](Replay::ids). See
    /// [`RelayBuilder::retention`](crate::RelayBuilder::retention) for what is retained.
    ///
    /// It happens in the database, except on MySQL, where the events come here and go back, some at
    /// a time. On Postgres and MySQL it fails after ten minutes, or after Postgres's
    /// `statement_timeout` if that is less; on SQLite, other writers wait for it. Narrow `which` down
    /// to what is needed.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn replay(&self, which: Replay) -> Result<u64, OutboxError> {
        let replayed = DB::replay(self.pool(), &self.core().names, &which).await?;
        self.ring();
        Ok(replayed)
    }

    /// Chooses what a [`replay`](Self::replay) would publish again, and publishes nothing: for a
    /// preview, or for a replay at a rate, a part at a time by
    /// [`replay_next`](Self::replay_next).
    ///
    /// # Errors
    /// If there are more than [`ReplayPlan::MOST`] events. If the database refuses, or its tables
    /// are missing.
    pub async fn plan_replay(&self, which: &Replay) -> Result<ReplayPlan, OutboxError> {
        let core = self.core();
        let rows = DB::to_replay(&core.pool, &core.names, which, ReplayPlan::MOST + 1).await?;
        if rows.len() > ReplayPlan::MOST as usize {
            return Err(OutboxError::config(format!(
                "more than {} events would be replayed, and none was. Narrow them down by topic, key, name or time, or replay \
                 all of them in one transaction by `outbox.replay(…)`",
                ReplayPlan::MOST
            )));
        }
        Ok(ReplayPlan::new(rows))
    }

    /// Publishes the next events of a plan again, at most `most` (and never more than 10,000), in
    /// one transaction. Returns their number, without those that were parked or reclaimed
    /// meanwhile; the plan then is past them.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing. The plan is where it was.
    pub async fn replay_next(&self, plan: &mut ReplayPlan, most: u32) -> Result<u64, OutboxError> {
        const AT_ONCE: u32 = 10_000;
        let core = self.core();
        let rows = plan.next(most.min(AT_ONCE) as usize);
        let passed = rows.len();
        if passed == 0 {
            return Ok(0);
        }
        let replayed = DB::replay_rows(&core.pool, &core.names, rows).await?;
        plan.passed(passed);
        self.ring();
        Ok(replayed)
    }
}
