//! A relay that holds a group: it reads windows and publishes waves, one transaction each.

use super::kafka::Progress;
use super::postgres::{Cursor, Earlier, Incarnation, Row, Saved};
use super::world::World;
use super::{Flaw, Rules};

/// Waves that may be open at the same time.
const PIPELINE: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Phase {
    /// Without a group: just started, or closed after something unclear.
    #[default]
    Out,
    /// The producers below this one are fenced.
    Fencing(usize),
    Reading,
    Confirming,
    Adopting,
    Recording,
    Running,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wave {
    pub(super) producer: usize,
    pub(super) progress: Progress,
    /// Whether the progress is sent, and with it all of the wave is reported.
    pub(super) complete: bool,
    /// Whether a commit was asked for and not answered.
    pub(super) unanswered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Relay {
    pub(super) phase: Phase,
    /// The server that windows are read from, and the one that witnesses are written to.
    pub(super) session: Incarnation,
    pub(super) witness_session: Incarnation,
    pub(super) claim: u8,
    pub(super) epochs: Vec<u8>,
    // What the claim returned, and what was read from the topic.
    pub(super) earlier: Vec<Earlier>,
    pub(super) adopted_before: bool,
    pub(super) ended: u8,
    pub(super) saved: Saved,
    pub(super) read: Option<Progress>,
    /// Everything up to here is in a wave, parked, or committed.
    pub(super) cursor: Cursor,
    pub(super) settled: Vec<u8>,
    /// The highest transaction id that was seen since the claim, and the confirmed witness.
    pub(super) need: u8,
    pub(super) witness: u8,
    pub(super) waves: Vec<Wave>,
    pub(super) number: u8,
    pub(super) next_producer: usize,
    /// A producer to initialize before it is used again.
    pub(super) suspect: Option<usize>,
    /// The progress of the last commit.
    pub(super) done: Progress,
    pub(super) unsaved: bool,
    /// A row that was refused, or follows one of its key that was.
    pub(super) to_park: Option<Row>,
}

impl Relay {
    /// A wave that ends at the cursor.
    pub(super) fn push_wave(&mut self, producer: usize) {
        self.number += 1;
        let progress = Progress {
            claim: self.claim,
            number: self.number,
            cursor: self.cursor.clone(),
            need: self.need,
            settled: self.settled.clone(),
        };
        self.waves.push(Wave { producer, progress, complete: false, unanswered: false });
    }

    fn take_producer(&mut self) -> usize {
        let producer = self.next_producer;
        self.next_producer = (producer + 1) % self.epochs.len();
        producer
    }

    /// What is not committed is published again.
    fn rewind(&mut self) {
        self.waves.clear();
        self.cursor = self.done.cursor.clone();
        self.settled = self.done.settled.clone();
    }
}

impl World {
    /// The steps of a relay that holds the group, or has adopted its progress.
    pub(super) fn publish(&self, n: usize, rules: Rules, steps: &mut Vec<Self>) {
        let relay = &self.relays[n];
        if let Some(at) = relay.waves.iter().position(|wave| !wave.complete) {
            steps.push(self.completed(n, at, rules));
            let next = relay.waves.get(at + 1);
            if rules.has(Flaw::ProgressOutOfOrder) && next.is_some_and(|wave| !wave.complete) {
                steps.push(self.completed(n, at + 1, rules));
            }
        }
        let committable = if rules.has(Flaw::CommitOutOfOrder) { PIPELINE } else { 1 };
        for at in 0..relay.waves.len().min(committable) {
            if relay.waves[at].complete {
                self.commit(n, at, rules, steps);
            }
        }
    }

    /// The steps of a relay that runs.
    pub(super) fn run(
        &self,
        n: usize,
        rules: Rules,
        (steps, faults): (&mut Vec<Self>, &mut Vec<Self>),
    ) {
        let relay = &self.relays[n];
        if relay.unsaved || rules.has(Flaw::SaveBeforeCommit) && !relay.waves.is_empty() {
            steps.push(self.cursor_saved(n, rules));
        }
        if self.server(relay.session).is_none() {
            // The session is dead; what is witnessed may still be committed.
            steps.push(self.closed(n));
            return;
        }
        if relay.to_park.is_some() {
            steps.push(self.parked(n, rules));
            return;
        }
        if relay.waves.is_empty() {
            self.tend_parked(n, rules, steps);
        }
        let reported = |world: &Self| {
            let mut waves = world.relays[n].waves.iter();
            waves.all(|wave| wave.complete || rules.has(Flaw::ProgressOutOfOrder))
        };
        if relay.waves.len() < PIPELINE && reported(self) {
            if relay.cursor.is_open() {
                self.read_on(n, rules, (steps, faults));
            } else {
                self.opened(n, rules, (steps, faults));
            }
        }
    }

    /// A window is opened if there is anything new, and perhaps if there is not.
    fn opened(&self, n: usize, rules: Rules, (steps, faults): (&mut Vec<Self>, &mut Vec<Self>)) {
        let mut next = self.clone();
        let (relay, server) = next.relay_and_server(n);
        let Some(server) = server else { return };
        let snapshot = server.open_window();
        let need = relay.need.max(snapshot.need());
        if relay.cursor.has_news(&server.live.rows) {
            relay.need = need;
            relay.cursor.open(snapshot);
            steps.push(next);
        } else if self.left.idle > 0 {
            if !rules.has(Flaw::NeedWithoutEnd) {
                relay.need = need;
            }
            relay.cursor.idle(snapshot);
            next.left.idle -= 1;
            faults.push(next);
        }
    }

    /// The next row of the window is sent, parked, or passed over because it is parked already.
    fn read_on(&self, n: usize, rules: Rules, (steps, faults): (&mut Vec<Self>, &mut Vec<Self>)) {
        let mut next = self.clone();
        let (relay, server) = next.relay_and_server(n);
        let Some(server) = server else { return };
        let parked = &server.live.parked;
        let Some(row) = relay.cursor.next_row(&server.live.rows).cloned() else {
            relay.cursor.close();
            steps.push(next);
            return;
        };
        if parked.iter().any(|parked| parked.seq == row.seq) {
            relay.cursor.advance(row.seq);
            steps.push(next);
            return;
        }
        let follows_parked = parked.iter().any(|parked| parked.key == row.key)
            && !rules.has(Flaw::LaterOfKeyNotParked);
        if relay.waves.is_empty() && (follows_parked || self.left.refusals > 0) {
            let mut to_park = self.clone();
            to_park.relays[n].to_park = Some(row.clone());
            if follows_parked {
                steps.push(to_park);
            } else {
                to_park.left.refusals -= 1;
                faults.push(to_park);
            }
        }
        if !follows_parked {
            relay.cursor.advance(row.seq);
            let settled = relay.settled.clone();
            steps.push(next.sent(n, (Some(row.event), settled), rules));
        }
    }

    /// Begins a wave with this event, or with none.
    pub(super) fn sent(
        mut self,
        n: usize,
        (event, settled): (Option<u8>, Vec<u8>),
        rules: Rules,
    ) -> Self {
        if !self.recycled(n, rules) {
            return self.closed(n);
        }
        let relay = &mut self.relays[n];
        let producer = relay.take_producer();
        if relay.epochs[producer] != self.kafka.epochs[producer] {
            return self.closed(n);
        }
        relay.settled = settled;
        relay.push_wave(producer);
        if let Some(event) = event {
            self.kafka.send(producer, event);
        }
        self
    }

    /// The next step of a wave whose events are reported: the witness, then its progress.
    fn completed(&self, n: usize, at: usize, rules: Rules) -> Self {
        let mut next = self.clone();
        let relay = &mut next.relays[n];
        let Wave { producer, ref progress, .. } = relay.waves[at];
        if progress.need > relay.witness && !rules.has(Flaw::NoWitness) {
            let need = progress.need;
            return next.witnessed(n, need, rules);
        }
        if relay.epochs[producer] != next.kafka.epochs[producer] {
            return next.closed(n);
        }
        relay.waves[at].complete = true;
        let progress = relay.waves[at].progress.clone();
        next.kafka.send_progress(producer, progress);
        next
    }

    fn witnessed(mut self, n: usize, need: u8, rules: Rules) -> Self {
        let current = self.server.incarnation;
        let relay = &mut self.relays[n];
        if rules.has(Flaw::WitnessOnNewSession) && relay.witness_session != current {
            relay.witness_session = current;
        }
        let (claim, session) = (relay.claim, relay.witness_session);
        let sync = !rules.has(Flaw::AsyncWitness);
        let written = self.server_mut(session).is_some_and(|server| {
            server.live.claim == claim && {
                server.transact(sync, |db, _| db.witness = db.witness.max(need));
                true
            }
        });
        if !written {
            return self.closed(n);
        }
        self.relays[n].witness = need;
        self
    }

    /// The commit of a wave, and what may come instead.
    fn commit(&self, n: usize, at: usize, rules: Rules, steps: &mut Vec<Self>) {
        let mut next = self.clone();
        let relay = &next.relays[n];
        let Wave { producer, unanswered, .. } = relay.waves[at];
        if relay.epochs[producer] != next.kafka.epochs[producer] {
            steps.push(next.closed(n));
            return;
        }
        if unanswered && rules.has(Flaw::UnknownIsAborted) {
            next.kafka.abort(producer);
            next.relays[n].rewind();
            steps.push(next);
            return;
        }
        if unanswered {
            // Instead of asking again.
            steps.push(self.closed(n));
        }
        // A request that was received before is answered alike.
        next.kafka.commit(producer, next.fallbacks);
        let relay = &mut next.relays[n];
        relay.done = relay.waves.remove(at).progress;
        relay.unsaved = true;
        if relay.phase == Phase::Adopting {
            relay.phase = Phase::Recording;
        }
        steps.push(if unanswered { next.after_suspicion(n, producer, rules) } else { next });
    }

    /// The producer asked twice for a commit, and the first request may still arrive: only taking
    /// over again makes sure of all producers.
    fn after_suspicion(mut self, n: usize, producer: usize, rules: Rules) -> Self {
        if rules.has(Flaw::RecycleSuspect) || rules.has(Flaw::RecycleAndConfirm) {
            self.relays[n].suspect = Some(producer);
            return self;
        }
        if rules.has(Flaw::ReuseSuspect) { self } else { self.closed(n) }
    }

    /// Whether the next producer may be used, after it was initialized again if it is suspect.
    fn recycled(&mut self, n: usize, rules: Rules) -> bool {
        let relay = &mut self.relays[n];
        let producer = relay.next_producer;
        if relay.suspect != Some(producer) {
            return true;
        }
        relay.suspect = None;
        relay.epochs[producer] = self.kafka.init(producer);
        let (claim, session) = (relay.claim, relay.session);
        !rules.has(Flaw::RecycleAndConfirm)
            || self.server(session).is_some_and(|server| server.live.claim == claim)
    }

    /// What can go wrong with a commit.
    pub(super) fn commit_faults(&self, n: usize, rules: Rules, faults: &mut Vec<Self>) {
        let relay = &self.relays[n];
        let Some(wave) = relay.waves.first().filter(|wave| wave.complete && !wave.unanswered)
        else {
            return;
        };
        let (producer, epoch) = (wave.producer, relay.epochs[wave.producer]);
        if self.left.unknown > 0 {
            let mut next = self.clone();
            next.left.unknown -= 1;
            next.relays[n].waves[0].unanswered = true;
            next.kafka.delayed.push(super::kafka::Delayed { producer, epoch });
            faults.push(next);
        }
        if self.left.aborts > 0 && relay.phase == Phase::Running {
            let mut next = self.clone();
            next.left.aborts -= 1;
            faults.push(next.aborted(n, rules));
        }
    }

    /// The first wave has to be aborted, and with it those behind it.
    fn aborted(mut self, n: usize, rules: Rules) -> Self {
        let relay = &mut self.relays[n];
        let epochs = &self.kafka.epochs;
        if rules.has(Flaw::NextSurvivesAbort) && relay.waves.len() > 1 {
            let first = relay.waves.remove(0);
            self.kafka.abort(first.producer);
            return self;
        }
        for wave in &relay.waves {
            if relay.epochs[wave.producer] == epochs[wave.producer] {
                self.kafka.events.retain(|entry| entry.open != Some(wave.producer));
                self.kafka.progress.retain(|entry| entry.open != Some(wave.producer));
            }
        }
        relay.rewind();
        self
    }

    /// Saves how far is committed; the write need not be on disk.
    fn cursor_saved(&self, n: usize, rules: Rules) -> Self {
        let mut next = self.clone();
        let (relay, server) = next.relay_and_server(n);
        let progress = match relay.waves.last() {
            Some(wave) if rules.has(Flaw::SaveBeforeCommit) => &wave.progress,
            _ => &relay.done,
        };
        let (claim, number) = (relay.claim, progress.number);
        let saved = Saved { cursor: progress.cursor.clone(), claim, number };
        match server {
            Some(server) if server.live.claim == claim => {
                server.transact(false, |db, _| db.saved = saved);
                relay.unsaved = false;
                next
            }
            _ => next.closed(n),
        }
    }

    /// Everything of this relay is dropped. Its transactions stay open until they are fenced.
    pub(super) fn closed(&self, n: usize) -> Self {
        let mut next = self.clone();
        next.relays[n] = super::relay::Relay::default();
        next
    }
}
