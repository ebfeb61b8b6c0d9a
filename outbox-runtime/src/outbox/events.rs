//! Where is my event?

use uuid::Uuid;

use super::Outbox;
use crate::error::OutboxError;
use crate::store::OutboxDatabase;
use crate::store::events::{EventFilter, FoundEvent, GroupEvent, ListedEvent};
use crate::store::parked_filter::ParkedFilter;

/// Most events in one page of a list.
const PAGE_EVENTS: u32 = 10_000;

impl<DB: OutboxDatabase> Outbox<DB> {
    /// The events of the outbox that `filter` means, the newest first, at most `limit` (and never
    /// more than 10,000): from the newest on, or those with numbers below `before`.
    ///
    /// With a key it reads the lane of that key; otherwise all lanes, from the newest event
    /// backwards until it has found enough. Events whose space was reclaimed are not found; on MySQL
    /// these are all that are published, unless relays have a
    /// [retention](crate::RelayBuilder::retention).
    ///
    /// # Errors
    /// If the database refuses or takes longer than 30 s, or its tables are missing.
    pub async fn list_events(
        &self,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, OutboxError> {
        let core = self.core();
        let limit = limit.min(PAGE_EVENTS);
        Ok(DB::list_events(&core.pool, &core.names, filter, before, limit).await?)
    }

    /// Where the event with this id is: its rows and what became of them, whether it is parked or
    /// was discarded, and which relay holds its lane. On Postgres this reads all retained events,
    /// and on MySQL all pending ones, since there is no index on ids;
    /// [`list_events`](Self::list_events) by the key is faster.
    ///
    /// What consumers made of it is in their databases:
    /// [`groups_of_event`](Self::groups_of_event).
    ///
    /// # Errors
    /// If the database refuses or takes longer than 30 s, or its tables are missing.
    pub async fn find_event(&self, id: Uuid) -> Result<FoundEvent, OutboxError> {
        let core = self.core();
        let (copies, stored) = DB::copies(&core.pool, &core.names, id).await?;
        let parked = self.parked_where(&ParkedFilter::all().ids([id]), None, 100).await?;
        let discarded = DB::discarded_as(&core.pool, &core.names, id).await?;
        let lane = copies.last().map(|copy| copy.lane);
        let lane = lane.or_else(|| parked.last().map(|parked| parked.lane));
        let mut relay = None;
        if let Some(lane) = lane {
            let status = self.status().await?;
            let holds = |relay: &crate::store::relays::RelayStatus| relay.lanes.contains(&lane);
            relay = status.relays.into_iter().find(holds);
        }
        let readable = stored.filter(|stored| stored.unreadable.is_none());
        let event = readable.map(|stored| stored.record);
        let event = event.or_else(|| parked.last().map(|parked| parked.event.clone()));
        Ok(FoundEvent { id, event, copies, parked, discarded, relay })
    }

    /// What the consumer groups of this database know of the event with this id. A group that is
    /// not named has not tried it, or remembers it no more.
    ///
    /// # Errors
    /// If the database refuses, or its tables are missing.
    pub async fn groups_of_event(&self, id: Uuid) -> Result<Vec<GroupEvent>, OutboxError> {
        let core = self.core();
        Ok(DB::groups_of(&core.pool, &core.names, id).await?)
    }
}
