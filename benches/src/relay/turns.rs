//! Business transactions in two ways that take turns, in short slices of one process and one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outbox_bench_report::{Pairs, Plan, Round, Way};
use tokio::task::JoinSet;

use crate::Failure;

const CUSTOMERS: u64 = 10_000;
/// At the beginning of a turn, not counted: what the turn before wrote is still being published.
const SETTLE: Duration = Duration::from_millis(50);

/// A service whose transactions are measured.
pub(crate) trait Business: Clone + Send + 'static {
    /// One transaction, which writes its event in this way.
    fn call(&self, way: Way, customer: u64) -> impl Future<Output = Result<(), Failure>> + Send;
}

pub(crate) async fn in_turns(
    service: impl Business,
    ways: [Way; 2],
    connections: u32,
    plan: Plan,
) -> Result<Pairs, Failure> {
    let mut turns = Turns { service, connections, plan, calls: 0 };
    // The first round warms up.
    turns.round(ways).await?;
    let mut rounds = Vec::new();
    while !plan.is_done(&rounds) {
        rounds.push(turns.round(ways).await?);
    }
    Ok(Pairs { rounds })
}

struct Turns<S> {
    service: S,
    connections: u32,
    plan: Plan,
    /// Those of all turns so far.
    calls: u64,
}

impl<S: Business> Turns<S> {
    /// The first way, the second one twice, and the first again.
    async fn round(&mut self, [first, second]: [Way; 2]) -> Result<Round, Failure> {
        let a = self.turn(first).await?;
        let b = self.turn(second).await?.and(self.turn(second).await?);
        let a = a.and(self.turn(first).await?);
        Ok(Round { first: a.rate()?, second: b.rate()? })
    }

    /// Until the last of its transactions has ended.
    async fn turn(&mut self, way: Way) -> Result<Turn, Failure> {
        let next = Arc::new(AtomicU64::new(self.calls));
        let counted = Arc::new(AtomicU64::new(0));
        let begin = Instant::now() + SETTLE;
        let end = begin + Duration::from_millis(self.plan.slice_millis);
        let mut writers = JoinSet::new();
        for _ in 0..self.connections {
            let service = self.service.clone();
            let (next, counted) = (Arc::clone(&next), Arc::clone(&counted));
            writers.spawn(async move {
                loop {
                    let begun = Instant::now();
                    if begun >= end {
                        return Ok::<_, Failure>(());
                    }
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    service.call(way, n % CUSTOMERS).await?;
                    if begun >= begin {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer??;
        }
        let took = begin.elapsed();
        self.calls = next.load(Ordering::Relaxed);
        Ok(Turn { calls: counted.load(Ordering::Relaxed), took })
    }
}

struct Turn {
    calls: u64,
    took: Duration,
}

impl Turn {
    fn and(self, other: Self) -> Self {
        Self { calls: self.calls + other.calls, took: self.took + other.took }
    }

    fn rate(&self) -> Result<f64, Failure> {
        match self.calls {
            0 => Err("no transaction was committed".into()),
            calls => Ok(calls as f64 / self.took.as_secs_f64()),
        }
    }
}
