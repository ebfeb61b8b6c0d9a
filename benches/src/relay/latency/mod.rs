//! From the commit of an event to its arrival at a consumer: writer, relay and consumer in one
//! process, each on its own connections, at a given rate.

mod arrivals;
mod contenders;
mod disturbances;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outbox_bench_report::{Contender, Disturbance, Latencies, Load};
use serde::Deserialize;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;

use crate::{Failure, TOPIC, peak_mib, topic};
use arrivals::{Arrivals, Consuming};
pub(crate) use contenders::{emitted, with_relay};

pub(crate) const CONNECTIONS: u32 = 16;
const WARM_UP: Duration = Duration::from_secs(3);
const CUSTOMERS: u64 = 10_000;
/// A number of commits a second that writers on two cores do not reach.
const MOST_PER_SECOND: u64 = 50_000;

pub(crate) async fn measure(
    contender: Contender,
    load: Load,
    disturbance: Option<Disturbance>,
) -> Result<Latencies, Failure> {
    match contender {
        Contender::Outbox => contenders::outbox(load, disturbance).await,
        Contender::ExactlyOnce => contenders::exactly_once(load).await,
        Contender::BareLoop => contenders::bare_loop(load).await,
        Contender::Debezium => contenders::debezium(load).await,
        Contender::OutboxElsewhere | Contender::ProducerAlone | Contender::Peer => {
            Err("its latency is not measured".into())
        }
    }
}

#[derive(Deserialize)]
struct Number {
    number: u64,
}

/// When each number had been read from the database.
#[derive(Clone, Default)]
struct ReadAt(Arc<Mutex<HashMap<u64, Instant>>>);

impl ReadAt {
    fn note<'p>(&self, payloads: impl Iterator<Item = &'p [u8]>) {
        let now = Instant::now();
        let mut read_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Number { number } in payloads.filter_map(|payload| serde_json::from_slice(payload).ok())
        {
            read_at.entry(number).or_insert(now);
        }
    }
}

/// An event that was committed.
struct Committed {
    number: u64,
    at: Instant,
    /// How long its transaction took.
    took: Duration,
}

/// Calls `commit` as the load says. Returns the latencies of all customers except the `held_up`.
async fn timed<F, C>(
    load: Load,
    held_up: HashSet<u64>,
    read_at: ReadAt,
    commit: F,
) -> Result<Latencies, Failure>
where
    F: Fn(u64) -> C + Clone + Send + 'static,
    C: Future<Output = Result<(), Failure>> + Send + 'static,
{
    topic::create(TOPIC, &[]).await?;
    let seconds = load.seconds + WARM_UP.as_secs();
    let total = load.rate.unwrap_or(MOST_PER_SECOND) * seconds;
    let consuming = Consuming::start(total as usize).await?;

    let begin = Instant::now();
    let (committed, mut all_committed) = mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for first in 0..u64::from(CONNECTIONS) {
        let writer = Writer { first, total, begin, seconds, rate: load.rate };
        writers.spawn(writer.write(commit.clone(), committed.clone()));
    }
    drop(committed);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let took = begin.elapsed().as_secs_f64();
    // Late events have this time to arrive; the consumer then waits until nothing has come for half
    // a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let arrivals = consuming.end().await?;

    let mut samples = Samples::new(begin + WARM_UP);
    let read_at = read_at.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    while let Some(event) = all_committed.recv().await {
        let is_held_up = held_up.contains(&(event.number % CUSTOMERS));
        samples.add(&event, is_held_up, &arrivals, &read_at);
    }
    samples.latencies(took)
}

/// One of the connections: each commits every sixteenth number.
struct Writer {
    first: u64,
    total: u64,
    begin: Instant,
    seconds: u64,
    rate: Option<u64>,
}

impl Writer {
    async fn write<F, C>(
        self,
        commit: F,
        committed: UnboundedSender<Committed>,
    ) -> Result<(), Failure>
    where
        F: Fn(u64) -> C,
        C: Future<Output = Result<(), Failure>>,
    {
        let mut number = self.first;
        while number < self.total {
            // At its own time, not some time after the last one: a slow commit must not reduce the
            // load.
            if let Some(rate) = self.rate {
                let due = self.begin + Duration::from_secs_f64(number as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
            } else if self.begin.elapsed().as_secs() >= self.seconds {
                break;
            }
            let begun = Instant::now();
            commit(number).await?;
            let at = Instant::now();
            committed.send(Committed { number, at, took: at - begun })?;
            number += u64::from(CONNECTIONS);
        }
        Ok(())
    }
}

/// In milliseconds.
struct Samples {
    measured_from: Instant,
    commits: u32,
    lost: u64,
    arrived: Vec<f64>,
    read: Vec<f64>,
    written: Vec<f64>,
}

impl Samples {
    fn new(measured_from: Instant) -> Self {
        let (arrived, read, written) = (Vec::new(), Vec::new(), Vec::new());
        Self { measured_from, commits: 0, lost: 0, arrived, read, written }
    }

    fn add(
        &mut self,
        event: &Committed,
        is_held_up: bool,
        arrivals: &Arrivals,
        read_at: &HashMap<u64, Instant>,
    ) {
        self.commits += 1;
        let is_measured = event.at >= self.measured_from;
        if is_measured {
            self.written.push(millis(event.took));
        }
        if is_held_up {
            return;
        }
        match arrivals[event.number as usize] {
            None => self.lost += 1,
            Some(_) if !is_measured => {}
            Some(arrival) => {
                let since = |then: Instant| millis(then.saturating_duration_since(event.at));
                self.arrived.push(since(arrival));
                self.read.extend(read_at.get(&event.number).copied().map(since));
            }
        }
    }

    /// `took`: from the first commit to the last, in seconds.
    fn latencies(mut self, took: f64) -> Result<Latencies, Failure> {
        if self.arrived.is_empty() {
            return Err("nothing arrived".into());
        }
        for samples in [&mut self.arrived, &mut self.read, &mut self.written] {
            samples.sort_by(f64::total_cmp);
        }
        Ok(Latencies {
            p50: quantile(&self.arrived, 0.5),
            p99: quantile(&self.arrived, 0.99),
            p999: quantile(&self.arrived, 0.999),
            worst: quantile(&self.arrived, 1.0),
            // Debezium does not say when it read what.
            read_p99: (!self.read.is_empty()).then(|| quantile(&self.read, 0.99)),
            write_p99: quantile(&self.written, 0.99),
            rate: f64::from(self.commits) / took,
            lost: self.lost,
            peak_mib: peak_mib(),
        })
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted.get((sorted.len().saturating_sub(1) as f64 * q) as usize).copied().unwrap_or(f64::NAN)
}
