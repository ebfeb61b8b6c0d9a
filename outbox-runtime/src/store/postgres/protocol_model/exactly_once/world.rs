//! The state of the model, what writers do, what can go wrong, and what is promised.

use super::kafka::Kafka;
use super::postgres::{Db, Incarnation, Row, Server};
use super::relay::{Phase, Relay};
use super::switch::AtLeastOnce;
use super::{Faults, Flaw, Rules};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// Its row is inserted, under the lock of its key.
    Inserted {
        xid: u8,
        seq: u8,
    },
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    writers: Vec<Writer>,
    pub(super) server: Server,
    /// The server from before a failover, if sessions to it go on.
    old_server: Option<Server>,
    /// The log up to where a standby received it.
    standby: Option<Db>,
    pub(super) kafka: Kafka,
    pub(super) relays: Vec<Relay>,
    /// The relay that has the lease.
    pub(super) holder: Option<usize>,
    pub(super) claims: u8,
    /// The relay that delivers at least once and holds the lanes.
    pub(super) at_least_once: Option<AtLeastOnce>,
    incarnations: u8,
    /// Times that a relay fell back to the cursor in the database: logged and counted.
    pub(super) fallbacks: u8,
    /// Whether something was lost that had been confirmed.
    lossy: bool,
    /// Key and event, in the order of their commits.
    committed: Vec<(u8, u8)>,
    pub(super) left: Faults,
}

impl World {
    pub(super) fn new(rules: Rules) -> Self {
        let scene = rules.scene;
        let mut world = Self {
            writers: vec![Writer::Idle; scene.keys.len()],
            server: Server::recovered(Db::default(), 1),
            old_server: None,
            standby: None,
            kafka: Kafka::new(scene.producers),
            relays: vec![Relay::default(); scene.relays],
            holder: None,
            claims: 0,
            at_least_once: scene.begins_at_least_once.then(AtLeastOnce::default),
            incarnations: 1,
            fallbacks: 0,
            lossy: false,
            committed: Vec::new(),
            left: scene.faults,
        };
        for writer in (0..scene.written).flat_map(|n| [n, n]) {
            world = world.write(writer, rules).unwrap_or(world);
        }
        while scene.running && world.relays[0].phase != Phase::Running {
            let mut steps = Vec::from_iter(world.take_over(0, rules));
            world.publish(0, rules, &mut steps);
            let Some(next) = steps.pop() else { break };
            world = next;
        }
        world
    }

    /// The server that a session goes to, if the session still works.
    pub(super) fn server(&self, session: Incarnation) -> Option<&Server> {
        [Some(&self.server), self.old_server.as_ref()]
            .into_iter()
            .flatten()
            .find(|server| server.incarnation == session)
    }

    pub(super) fn server_mut(&mut self, session: Incarnation) -> Option<&mut Server> {
        [Some(&mut self.server), self.old_server.as_mut()]
            .into_iter()
            .flatten()
            .find(|server| server.incarnation == session)
    }

    /// A relay and the server that it reads from.
    pub(super) fn relay_and_server(&mut self, n: usize) -> (&mut Relay, Option<&mut Server>) {
        let relay = &mut self.relays[n];
        let server = [Some(&mut self.server), self.old_server.as_mut()]
            .into_iter()
            .flatten()
            .find(|server| server.incarnation == relay.session);
        (relay, server)
    }

    /// What happens if nothing goes wrong any more, and what else can happen.
    pub(super) fn next(&self, rules: Rules) -> (Vec<Self>, Vec<Self>) {
        let (mut steps, mut faults) = (Vec::new(), Vec::new());
        for n in 0..self.writers.len() {
            steps.extend(self.write(n, rules));
        }
        for n in 0..self.relays.len() {
            steps.extend(self.take_over(n, rules));
            self.publish(n, rules, &mut steps);
            self.commit_faults(n, rules, &mut faults);
            if self.relays[n].phase == Phase::Running {
                self.run(n, rules, (&mut steps, &mut faults));
            }
            self.relay_faults(n, rules, &mut faults);
        }
        self.deliver_at_least_once(&mut steps);
        self.switch_faults(rules, &mut faults);
        if self.old_server.is_some() {
            steps.push(Self { old_server: None, ..self.clone() });
        }
        self.database_faults(rules, &mut faults);
        self.kafka_faults(&mut faults);
        (steps, faults)
    }

    fn write(&self, n: usize, rules: Rules) -> Option<Self> {
        let mut next = self.clone();
        let key = rules.scene.keys[n];
        match self.writers[n] {
            Writer::Idle => {
                let holds_the_lock = |(other, writer): (usize, &Writer)| {
                    rules.scene.keys[other] == key && matches!(writer, Writer::Inserted { .. })
                };
                if self.writers.iter().enumerate().any(holds_the_lock) {
                    return None;
                }
                let (xid, seq) = next.server.begin();
                next.writers[n] = Writer::Inserted { xid, seq };
            }
            Writer::Inserted { xid, seq } => {
                next.writers[n] = Writer::Ended;
                let event = n as u8;
                let lazy = rules.scene.lazy >> n & 1 == 1;
                next.server.commit(Row { event, key, xid, seq }, !lazy);
                next.committed.push((key, event));
            }
            Writer::Ended => return None,
        }
        Some(next)
    }

    fn relay_faults(&self, n: usize, rules: Rules, faults: &mut Vec<Self>) {
        if self.relays[n].phase == Phase::Out {
            let held = self.at_least_once.is_none() && self.take_over(n, rules).is_none();
            if self.left.stalls > 0 && held {
                let mut next = self.clone();
                next.left.stalls -= 1;
                faults.push(next.claimed(n, rules));
            }
        } else if self.left.kills > 0 {
            let mut next = self.closed(n);
            next.left.kills -= 1;
            faults.push(next);
        }
    }

    fn database_faults(&self, rules: Rules, faults: &mut Vec<Self>) {
        if self.left.crashes > 0 {
            let server = &self.server;
            faults.push(self.crashed(server.flushed.clone()));
            if server.live != server.flushed {
                faults.push(self.crashed(server.live.clone()));
            }
        }
        if self.left.failovers > 0 && self.standby.is_none() {
            let mut next = self.clone();
            next.standby = Some(self.server.flushed.clone());
            faults.push(next);
        }
        if self.standby.is_some() {
            faults.push(self.failed_over(false));
            if self.left.old_server_lives {
                faults.push(self.failed_over(true));
            }
        }
        if rules.scene.truncates {
            faults.extend(self.truncated(rules));
        }
    }

    fn kafka_faults(&self, faults: &mut Vec<Self>) {
        for (at, delayed) in self.kafka.delayed.iter().enumerate() {
            let mut next = self.clone();
            next.kafka.delayed.remove(at);
            if next.kafka.epochs[delayed.producer] == delayed.epoch {
                next.kafka.commit(delayed.producer, next.fallbacks);
            }
            faults.push(next);
        }
        for producer in 0..self.kafka.epochs.len() {
            if self.left.timeouts > 0 && self.kafka.has_open(producer) {
                let mut next = self.clone();
                next.left.timeouts -= 1;
                next.kafka.init(producer);
                faults.push(next);
            }
        }
        if self.left.lost_topics > 0 && self.kafka.read_progress().is_some() {
            let mut next = self.clone();
            next.left.lost_topics -= 1;
            next.lossy = true;
            next.kafka.progress.retain(|entry| entry.open.is_some());
            faults.push(next);
        }
    }

    /// The server's process starts again with this log. Writers that had not committed are gone.
    fn crashed(&self, log: Db) -> Self {
        let mut next = self.clone();
        next.left.crashes -= 1;
        next.restart(log);
        next
    }

    fn failed_over(&self, old_server_lives: bool) -> Self {
        let mut next = self.clone();
        next.left.failovers -= 1;
        next.lossy = true;
        let log = next.standby.take().unwrap_or_default();
        let old = next.restart(log);
        if old_server_lives {
            next.old_server = Some(old);
        }
        next
    }

    fn restart(&mut self, log: Db) -> Server {
        self.incarnations += 1;
        for writer in &mut self.writers {
            if matches!(writer, Writer::Inserted { .. }) {
                *writer = Writer::Ended;
            }
        }
        let survives = log.committed;
        self.committed.retain(|(_, event)| survives >> event & 1 == 1);
        std::mem::replace(&mut self.server, Server::recovered(log, self.incarnations))
    }

    /// Each row has a leaf of its own.
    fn truncated(&self, rules: Rules) -> Option<Self> {
        let db = &self.server.live;
        let progress = self.kafka.read_progress().map(|progress| progress.cursor);
        let published = match &progress {
            Some(cursor) if rules.has(Flaw::TruncateByProgress) => cursor,
            _ => &db.saved.cursor,
        };
        let seq = db.rows.iter().find(|row| published.passed(row))?.seq;
        let mut next = self.clone();
        next.server.transact(false, |db, _| db.rows.retain(|row| row.seq != seq));
        Some(next)
    }

    pub(super) fn check(&self, last: bool) -> Result<(), String> {
        let published: Vec<_> = self.kafka.published().collect();
        for (at, entry) in published.iter().enumerate() {
            let event = entry.value;
            let earlier = published[..at].iter().find(|earlier| earlier.value == event);
            if let Some(earlier) = earlier {
                if !self.lossy {
                    return Err(format!("event {event} is published twice"));
                }
                if earlier.after_fallbacks == entry.after_fallbacks {
                    return Err(format!("event {event} is silently published twice"));
                }
            }
            if !self.lossy && self.server.flushed.committed >> event & 1 == 0 {
                return Err(format!("event {event} is published and not on disk"));
            }
        }
        if !self.lossy && self.fallbacks > 0 {
            return Err("a relay fell back without need".to_owned());
        }
        self.in_order(last)
    }

    /// The first publications of a key are in the order of its commits; in the last state, all are
    /// there.
    fn in_order(&self, last: bool) -> Result<(), String> {
        for key in [0, 1] {
            let due: Vec<u8> = self
                .committed
                .iter()
                .filter(|(of, _)| *of == key)
                .map(|(_, event)| *event)
                .collect();
            let mut first: Vec<u8> = Vec::new();
            for entry in self.kafka.published() {
                if due.contains(&entry.value) && !first.contains(&entry.value) {
                    first.push(entry.value);
                }
            }
            if let Some(lost) = due.iter().find(|event| last && !first.contains(event)) {
                return Err(format!("event {lost} is lost"));
            }
            let ranks = |event: &u8| due.iter().position(|due| due == event);
            if !first.iter().map(ranks).is_sorted() {
                return Err(format!("key {key} was committed as {due:?}, published as {first:?}"));
            }
        }
        Ok(())
    }
}
