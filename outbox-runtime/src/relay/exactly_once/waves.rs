//! The waves of a group, one after the other: each is a transaction of the broker's with batches of
//! any of the group's lanes, and the progress as its last record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::group::{Group, Turn};
use super::join::{Join, Member, Outcome};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::observe::target;
use crate::publish::transactions::{Closed, GroupSession};
use crate::store::groups::{ExactlyOnceStore, GroupStore};

/// Bounds of a wave. A single larger batch is a wave all the same.
const MOST_EVENTS: usize = 10_000;
const MOST_BYTES: u64 = 8 * 1024 * 1024;
/// How long a wave waits for more, once it has something: batches of lanes that were read together
/// come within less.
const GATHERING: Duration = Duration::from_millis(1);

/// Publishes what joins, until the group ends. `interval`: the least time from the begin of a wave
/// to that of the next one.
pub(super) async fn run<St, G, S>(
    group: Arc<Group<G, S>>,
    joins: UnboundedReceiver<Join>,
    interval: Duration,
) where
    St: ExactlyOnceStore,
    G: GroupStore,
    S: GroupSession,
{
    let mut waves = Waves { group: &group, joins, waiting: VecDeque::new() };
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = group.over.notified() => break,
            found = waves.wait_for_one() => if !found { break },
        }
        sleep_until(next).await;
        if group.has_ended() {
            break;
        }
        next = Instant::now() + interval;
        if let Err(error) = waves.publish_one::<St>().await {
            group.end(Some(&error));
            break;
        }
    }
    group.end(None);
}

struct Waves<'g, G, S> {
    group: &'g Group<G, S>,
    joins: UnboundedReceiver<Join>,
    /// Those that are not part of a wave yet.
    waiting: VecDeque<Join>,
}

/// How a wave is filled.
#[derive(Debug, Default, Clone, Copy)]
struct Load {
    events: usize,
    bytes: u64,
    is_closed: bool,
}

impl<G: GroupStore, S: GroupSession> Waves<'_, G, S> {
    /// Waits until something can be published. Returns `false` if nobody is there who asks.
    async fn wait_for_one(&mut self) -> bool {
        loop {
            if self.is_any_ready() {
                return true;
            }
            match self.joins.recv().await {
                Some(join) => self.waiting.push_back(join),
                None => return false,
            }
        }
    }

    /// Those whose lane was read again from an earlier cursor are told so by being dropped.
    fn is_any_ready(&mut self) -> bool {
        let state = self.group.state();
        self.waiting.retain(|join| state.turn_of(&join.part) != Turn::Never);
        self.waiting.iter().any(|join| state.turn_of(&join.part) == Turn::Now)
    }

    async fn publish_one<St: ExactlyOnceStore>(&mut self) -> Result<(), OutboxError> {
        let session = &self.group.session;
        session.begin().await.map_err(|Closed(error)| error)?;
        let mut members = self.gather().await;
        let (group, number) = (self.group.number, members.len());
        tracing::debug!(target: target::RELAY, group, batches = number, "wave open");
        // All that the wave rests on was read by now.
        let (delivered, need) = tokio::join!(all_delivered(&mut members), self.group.witness());
        tracing::debug!(target: target::RELAY, group, delivered, "wave reported");
        let need = match need {
            Ok(need) if delivered => need,
            Ok(_) => return self.abort(members).await,
            Err(error) => {
                // Otherwise its records keep consumers waiting until it times out.
                let _ = session.abort().await;
                return Err(error);
            }
        };
        let progress = self.group.state().progress(&members, need);
        failpoint("before-wave-commit");
        session.commit(progress.to_bytes()?).await.map_err(|Closed(error)| error)?;
        failpoint("after-wave-commit");
        tracing::debug!(target: target::RELAY, group, wave = progress.wave.number, "wave committed");
        self.group.state().committed::<St>(&members, progress)?;
        tell(members, Outcome::Committed);
        Ok(())
    }

    async fn abort(&mut self, members: Vec<Member>) -> Result<(), OutboxError> {
        self.group.session.abort().await.map_err(|Closed(error)| error)?;
        self.group.state().aborted(&members);
        tell(members, Outcome::Aborted);
        Ok(())
    }

    /// Takes in what is there, and what comes soon.
    async fn gather(&mut self) -> Vec<Member> {
        let (mut members, mut load) = (Vec::new(), Load::default());
        let until = Instant::now() + GATHERING;
        loop {
            while let Ok(join) = self.joins.try_recv() {
                self.waiting.push_back(join);
            }
            self.admit(&mut members, &mut load);
            if load.is_closed {
                return members;
            }
            match timeout_at(until, self.joins.recv()).await {
                Ok(Some(join)) => self.waiting.push_back(join),
                Ok(None) | Err(_) => return members,
            }
        }
    }

    /// Admits those that are waiting and whose turn it is.
    fn admit(&mut self, members: &mut Vec<Member>, load: &mut Load) {
        let mut state = self.group.state();
        let mut later = VecDeque::with_capacity(self.waiting.len());
        while let Some(join) = self.waiting.pop_front() {
            let alone = state.must_be_alone(&join.part);
            let has_room = members.is_empty()
                || !alone
                    && load.events + join.part.events <= MOST_EVENTS
                    && load.bytes + join.part.bytes <= MOST_BYTES;
            let turn = state.turn_of(&join.part);
            if turn == Turn::Now && (!has_room || load.is_closed) || turn == Turn::Later {
                later.push_back(join);
            } else if turn == Turn::Now {
                load.events += join.part.events;
                load.bytes += join.part.bytes;
                load.is_closed |= alone;
                state.admitted(&join.part);
                members.push(join.admit(alone));
            }
        }
        self.waiting = later;
    }
}

/// Whether all of it is reported as delivered. All reports are awaited: while one is missing,
/// something is still sent.
async fn all_delivered(members: &mut [Member]) -> bool {
    let mut delivered = true;
    for member in members {
        delivered &= (&mut member.report).await.unwrap_or(false);
    }
    delivered
}

fn tell(members: Vec<Member>, outcome: Outcome) {
    for member in members {
        // Whoever asked may be gone.
        let _ = member.outcome.send(outcome);
    }
}
