//! Pauses: what relays leave unpublished until an operator resumes it.

use super::Outbox;
use super::deadline::{ANSWER_WITHIN, in_time};
use crate::error::OutboxError;
use crate::observe::target;
use crate::store::OutboxDatabase;
use crate::store::parked::Release;
use crate::store::parked_filter::ParkedFilter;
use crate::store::pause::{Pause, PauseScope, storable};

impl<DB: OutboxDatabase> Outbox<DB> {
    /// Has the relays publish nothing more of `scope` until it is [resumed](Self::resume). A pause
    /// of the same scope is replaced. Services emit as before, and their events wait.
    ///
    /// Relays obey within 2 s, and mostly at once. They keep their leases, and finish what they
    /// have sent already. Paused are:
    ///
    /// - everything, or a lane: its events wait in their order;
    /// - a topic: its events are set aside in the table of the parked events, in the order of their
    ///   keys, and all other topics continue. They are published one at a time for each key once
    ///   the topic is resumed, so pause everything instead if the pause is to last and the topic
    ///   has much.
    ///
    /// What is already parked of a paused topic is not tried again meanwhile. A
    /// [drain](crate::Relay::drain) ends with an error while anything is paused.
    ///
    /// ```
    /// # async fn example(
    /// #     outbox: outbox::Outbox<sqlx::Sqlite>,
    /// # ) -> Result<(), outbox::OutboxError> {
    /// use outbox::admin::PauseScope;
    ///
    /// let orders = PauseScope::Topic("orders".to_owned());
    /// outbox.pause(&orders, "wrong prices since 10:40", "ann").await?;
    /// // …
    /// outbox.resume(&orders).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the database refuses or does not answer within 5 s, its tables are missing, or a thousand
    /// lanes and topics are paused already.
    pub async fn pause(
        &self,
        scope: &PauseScope,
        reason: &str,
        by: &str,
    ) -> Result<(), OutboxError> {
        scope.check()?;
        let (reason, by) = (storable(reason), storable(by));
        let core = self.core();
        let pause = DB::pause(&core.pool, &core.names, scope, &reason, &by);
        in_time("a pause", ANSWER_WITHIN, pause).await?;
        core.doorbell.ring_for_lanes();
        tracing::warn!(target: target::STORE, %scope, reason, by, "paused: its events stay in the outbox until it is resumed");
        Ok(())
    }

    /// Ends a pause of exactly this scope: relays continue where they were. Returns `false` if
    /// there was none. A lane stays paused as long as it or everything is.
    ///
    /// # Errors
    /// If the database refuses, does not answer within 5 s, or its tables are missing.
    pub async fn resume(&self, scope: &PauseScope) -> Result<bool, OutboxError> {
        scope.check()?;
        let core = self.core();
        let resume = DB::resume(&core.pool, &core.names, scope);
        let was_paused = in_time("the end of a pause", ANSWER_WITHIN, resume).await?;
        if let PauseScope::Topic(topic) = scope {
            let of_topic = ParkedFilter::all().topic(topic);
            DB::release_parked(&core.pool, &core.names, Release::Where(&of_topic)).await?;
        }
        core.doorbell.ring_for_lanes();
        if was_paused {
            tracing::info!(target: target::STORE, %scope, "resumed");
        }
        Ok(was_paused)
    }

    /// What is paused, with the reason and who paused it.
    ///
    /// # Errors
    /// If the database refuses, does not answer within 5 s, or its tables are missing.
    pub async fn pauses(&self) -> Result<Vec<Pause>, OutboxError> {
        let pauses = DB::pauses(self.pool(), &self.core().names);
        in_time("the pauses", ANSWER_WITHIN, pauses).await
    }
}
