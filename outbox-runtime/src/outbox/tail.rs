//! Looking at events as they are committed.

use std::time::{Duration, SystemTime};

use super::Outbox;
use super::deadline::in_time;
use crate::error::OutboxError;
use crate::store::OutboxDatabase;
use crate::store::tail::{COUNTED, Moment, TailFilter, TailWindow, TailedEvent};

/// Time within which a look is answered by default.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// Most events of one look at what is new that are shown. What was committed before the first look
/// was asked for, and is shown whole.
const BURST_EVENTS: u64 = 10_000;

impl<DB: OutboxDatabase> Outbox<DB> {
    /// Events as they are committed, for those who look: an operator, a test. It is no
    /// consumer: nothing is remembered between two of them, and what one shows may not be published
    /// yet.
    ///
    /// ```no_run
    /// # async fn example(
    /// #     outbox: outbox::Outbox<sqlx::Sqlite>,
    /// # ) -> Result<(), outbox::OutboxError> {
    /// let mut tail = outbox.tail().topic("orders");
    /// loop {
    ///     let look = tail.look().await?;
    ///     for event in look.events {
    ///         println!("{} {}", event.name, event.id);
    ///     }
    ///     if !look.has_more {
    ///         tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn tail(&self) -> EventTail<DB> {
        EventTail {
            outbox: self.clone(),
            filter: TailFilter::default(),
            within: LOOK_WITHIN,
            place: Place::Nowhere,
        }
    }
}

/// Events as they are committed: [`Outbox::tail`].
///
/// From its first [`look`](Self::look) on it shows each event that is committed once, also one whose
/// transaction commits late, after events with higher numbers. It shows them a window at a time,
/// those of a window by their numbers: a key's events come in the order of their commits. Not shown
/// are:
///
/// - what [`TailLook::not_shown`] counts, when more comes than a look takes;
/// - what was published and reclaimed before it was looked at;
/// - what was committed around a restart of the server or a failover, which
///   [`TailLook::is_interrupted`] tells;
/// - on MySQL, what was published between two looks, unless relays have a
///   [retention](crate::RelayBuilder::retention): a published event is deleted. And what commits
///   after ten thousand later numbers were visible.
///
/// Between two looks it holds no connection, transaction or lock. An error changes nothing: the
/// next look begins where the last good one ended.
pub struct EventTail<DB: OutboxDatabase> {
    outbox: Outbox<DB>,
    filter: TailFilter,
    within: Duration,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// It has not looked yet.
    Nowhere,
    /// All that was visible then was shown.
    After(Moment),
    /// A window is being shown.
    In { window: TailWindow, shown: u64 },
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailLook {
    /// The next events, at most 500, with at most four mebibytes of payloads.
    pub events: Vec<TailedEvent>,
    /// Number of events after these that are not shown, because more than 10,000 were committed
    /// between two looks. Up to 100,000 are counted.
    pub not_shown: u64,
    /// Whether there may be more to show now.
    pub has_more: bool,
    /// Whether the server was restarted, or another one answers: what was committed around that may
    /// be missing.
    pub is_interrupted: bool,
}

impl TailLook {
    /// Most events that are counted in [`not_shown`](Self::not_shown).
    pub const COUNTED: u64 = COUNTED as u64;
}

impl<DB: OutboxDatabase> EventTail<DB> {
    /// Only events on this topic, or on one of those that were named.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.filter.topics.push(topic.into());
        self
    }

    /// Only events with this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.filter.key = Some(key.into());
        self
    }

    /// Only events with this name on the wire.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.filter.name = Some(name.into());
        self
    }

    /// First what is in the outbox already and occurred then or later. Default: only what is
    /// committed after the first look.
    #[must_use]
    pub fn since(mut self, since: SystemTime) -> Self {
        self.filter.since = Some(since);
        self
    }

    /// With payloads of at most a mebibyte. Default: without.
    #[must_use]
    pub fn payloads(mut self) -> Self {
        self.filter.payloads = true;
        self
    }

    /// Longest time that a look takes. Default: 10 s, at most 30 s.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within.min(Duration::from_secs(30));
        self
    }

    /// What was committed since the last look, or the next part of it.
    ///
    /// # Errors
    /// If the database refuses or does not answer in time, or its tables are missing. Then the next
    /// look begins where this one did.
    pub async fn look(&mut self) -> Result<TailLook, OutboxError> {
        let look = async {
            match &self.place {
                Place::Nowhere => Ok(self.begun().await?),
                Place::After(prev) => Ok(self.opened(prev).await?),
                Place::In { window, shown } => Ok(self.shown(window.clone(), *shown).await?),
            }
        };
        // On the heap: the statements of all databases would be part of each caller's future.
        let (look, place) = in_time("its new events", self.within, Box::pin(look)).await?;
        self.place = place;
        Ok(look)
    }

    async fn begun(&self) -> Result<(TailLook, Place), OutboxError> {
        let (pool, names) = (self.outbox.pool(), &self.outbox.core().names);
        let cur = DB::moment(pool, names, None).await?;
        let Some(since) = self.filter.since else {
            return Ok((TailLook::default(), Place::After(cur)));
        };
        let prev = DB::before_all_since(pool, names, since).await?;
        self.shown(TailWindow { prev, cur, last: 0, is_past: true }, 0).await
    }

    async fn opened(&self, prev: &Moment) -> Result<(TailLook, Place), OutboxError> {
        let (pool, names) = (self.outbox.pool(), &self.outbox.core().names);
        let cur = DB::moment(pool, names, Some(prev)).await?;
        if cur.server != prev.server || cur.floor < prev.floor {
            return self.interrupted(prev).await;
        }
        if (cur.floor, &cur.snapshot) == (prev.floor, &prev.snapshot) {
            return Ok((TailLook::default(), Place::After(cur)));
        }
        let prev = prev.clone();
        self.shown(TailWindow { prev, cur, last: 0, is_past: false }, 0).await
    }

    /// After a restart, the old snapshot says nothing of new transactions, but the numbers above the
    /// old floor are new. After a failover that lost commits there may be none.
    async fn interrupted(&self, prev: &Moment) -> Result<(TailLook, Place), OutboxError> {
        let (pool, names) = (self.outbox.pool(), &self.outbox.core().names);
        // With a horizon of the new server's.
        let cur = DB::moment(pool, names, None).await?;
        let prev = Moment::before_all_above(prev.floor.min(cur.floor));
        let (look, place) =
            self.shown(TailWindow { prev, cur, last: 0, is_past: false }, 0).await?;
        Ok((TailLook { is_interrupted: true, ..look }, place))
    }

    /// The next page of a window.
    async fn shown(
        &self,
        mut window: TailWindow,
        shown: u64,
    ) -> Result<(TailLook, Place), OutboxError> {
        let (pool, names) = (self.outbox.pool(), &self.outbox.core().names);
        let up_to = window.up_to();
        let page = DB::page(pool, names, &self.filter, &window).await?;
        let shown = shown + page.events.len() as u64;
        let mut look = TailLook { events: page.events, ..TailLook::default() };
        window.last = match look.events.last() {
            Some(last) if page.is_cut => last.seq,
            _ => up_to,
        };
        if page.is_cut && shown >= BURST_EVENTS && !window.is_past {
            look.not_shown = DB::count(pool, names, &self.filter, &window).await?;
        } else if page.is_cut || up_to < window.cur.floor {
            look.has_more = true;
            return Ok((look, Place::In { window, shown }));
        }
        Ok((look, Place::After(window.cur)))
    }
}

impl<DB: OutboxDatabase> std::fmt::Debug for EventTail<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventTail")
            .field("filter", &self.filter)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
