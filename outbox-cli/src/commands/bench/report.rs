//! What was measured.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::Args;
use super::place::Place;
use crate::context::Context;
use crate::failure::Failure;

/// What the figures are not.
const NOTE: &str = "one run, on these machines as they were: with what else they did, with this program, its relay and its writers on \
one of them, and with an outbox that was empty before. Your service commits business data as well, and its relay is woken from \
another process. Compare runs with each other; do not take them for a capacity";

/// What programs read.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    database: &'static str,
    /// Whether Kafka received the events.
    kafka: bool,
    events: u64,
    size: u32,
    writers: u32,
    per_transaction: u64,
    emit_seconds: f64,
    emit_per_second: f64,
    commits_per_second: f64,
    drain_seconds: f64,
    drain_per_second: f64,
    /// Of payloads, in 1,000,000 bytes.
    drain_mb_per_second: f64,
    /// `null`: it was not measured.
    latency: Option<Latency>,
    note: &'static str,
}

/// From the beginning of a commit to the publisher's report.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    events: usize,
    per_second: f64,
    p50_seconds: f64,
    p99_seconds: f64,
    max_seconds: f64,
}

impl Latency {
    /// `taken` is sorted.
    pub(super) fn new(taken: Vec<Duration>, took: Duration) -> Self {
        let at = |part: f64| {
            let last = taken.len().saturating_sub(1);
            taken.get((last as f64 * part).round() as usize).map_or(0.0, Duration::as_secs_f64)
        };
        Self {
            events: taken.len(),
            per_second: per_second(taken.len() as u64, took),
            p50_seconds: at(0.5),
            p99_seconds: at(0.99),
            max_seconds: at(1.0),
        }
    }
}

fn per_second(number: u64, took: Duration) -> f64 {
    number as f64 / took.as_secs_f64().max(1e-9)
}

impl Report {
    pub(super) fn new<DB: Place>(
        args: &Args,
        emit: Duration,
        drain: Duration,
        latency: Option<Latency>,
    ) -> Self {
        let &Args { events, size, writers, per_transaction, without_kafka, .. } = args;
        Self {
            database: DB::DATABASE,
            kafka: !without_kafka,
            events,
            size,
            writers,
            per_transaction,
            emit_seconds: emit.as_secs_f64(),
            emit_per_second: per_second(events, emit),
            commits_per_second: per_second(events.div_ceil(per_transaction), emit),
            drain_seconds: drain.as_secs_f64(),
            drain_per_second: per_second(events, drain),
            drain_mb_per_second: per_second(events * u64::from(size), drain) / 1e6,
            latency,
            note: NOTE,
        }
    }

    pub(super) fn told(&self, context: &Context) -> Result<(), Failure> {
        context.output.one(self, || self.text())?;
        if !context.output.is_for_programs() {
            context.output.say(format_args!("\nThis is {NOTE}."));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let to = if self.kafka { "Kafka" } else { "nowhere" };
        let Self { events, size, writers, .. } = self;
        let mut text = format!(
            "{} to {to}, {events} events of {size} bytes, {writers} writers\n",
            self.database
        );
        let _ = writeln!(text, "emit      {:.0}/s", self.emit_per_second);
        let _ = writeln!(text, "commits   {:.0}/s", self.commits_per_second);
        let _ = writeln!(text, "drain     {:.0}/s", self.drain_per_second);
        let _ = writeln!(text, "          {:.1} MB/s of payloads", self.drain_mb_per_second);
        if let Some(latency) = &self.latency {
            let _ = writeln!(
                text,
                "latency   at {:.0}/s, from the commit to the report",
                latency.per_second
            );
            let _ = writeln!(text, "p50       {:.1} ms", latency.p50_seconds * 1e3);
            let _ = writeln!(text, "p99       {:.1} ms", latency.p99_seconds * 1e3);
            let _ = writeln!(text, "longest   {:.1} ms", latency.max_seconds * 1e3);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let taken = (1..=101).map(Duration::from_millis).collect();
        let latency = Latency::new(taken, Duration::from_secs(2));
        let Latency { events, per_second, p50_seconds, p99_seconds, max_seconds } = latency;
        assert_eq!((events, per_second), (101, 50.5));
        assert_eq!((p50_seconds, p99_seconds, max_seconds), (0.051, 0.100, 0.101));
        assert_eq!(Latency::new(Vec::new(), Duration::ZERO).max_seconds, 0.0);
    }
}
