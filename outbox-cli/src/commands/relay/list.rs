//! `outbox relay list` and `outbox relay health`.

use std::time::SystemTime;

use outbox::admin::{RelayStatus, Status};
use serde::Serialize;

use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::text::{ABSENT, one_line};
use crate::times;

pub async fn list(context: &Context) -> Result<(), Failure> {
    let status = status(context).await?;
    if status.relays.is_empty() && !context.output.is_for_programs() {
        context.output.say("no relays: nothing publishes the events of this outbox");
    }
    context.output.list(status.relays.iter().map(|relay| RelayRow::new(relay, status.at)))
}

pub async fn health(context: &Context) -> Result<(), Failure> {
    let status = status(context).await?;
    let alive = status.relays.iter().filter(|relay| relay.is_alive && !relay.is_drain).count();
    let held = status.lanes.iter().filter(|lane| lane.owner.is_some()).count();
    let lanes = status.lanes.len();
    let report = Health { healthy: alive > 0 && held == lanes, alive, lanes_held: held, lanes };
    context
        .output
        .one(&report, || format!("relays alive: {alive}; lanes held: {held} of {lanes}"))?;
    if report.healthy {
        return Ok(());
    }
    Err(Failure::condition(if alive == 0 {
        "no relay is alive: events stay in the outbox".to_owned()
    } else {
        format!("{} lanes are held by no relay: their events stay in the outbox", lanes - held)
    }))
}

async fn status(context: &Context) -> Result<Status, Failure> {
    let within = context.statement_timeout();
    Ok(with_outbox!(context.outbox().await?, outbox => outbox.status_within(within).await?))
}

#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    alive: usize,
    lanes_held: usize,
    lanes: usize,
}

/// A relay as it is printed.
#[derive(Debug, Serialize)]
pub struct RelayRow {
    pub id: String,
    pub host: Option<String>,
    pub pid: Option<u32>,
    pub version: Option<String>,
    pub started: Option<String>,
    pub last_sign: Option<String>,
    pub state: &'static str,
    pub lanes: Vec<i16>,
    #[serde(skip)]
    seconds: (Option<String>, Option<String>),
}

impl RelayRow {
    /// `now`: by the clock of the database.
    pub fn new(relay: &RelayStatus, now: SystemTime) -> Self {
        let ago = |time: SystemTime| {
            let age = now.duration_since(time).unwrap_or_default();
            format!("{} ago", times::short(age))
        };
        Self {
            id: relay.id.to_string(),
            host: relay.host.clone(),
            pid: relay.pid,
            version: relay.version.clone(),
            started: times::exact(relay.started),
            last_sign: relay.last_sign.and_then(times::exact),
            state: match relay {
                RelayStatus { is_alive: false, .. } => "dead",
                RelayStatus { is_drain: true, .. } => "drains",
                _ => "alive",
            },
            lanes: relay.lanes.iter().map(|lane| lane.number()).collect(),
            seconds: (times::seconds(relay.started), relay.last_sign.map(ago)),
        }
    }

    /// Where it is found: `host:pid`, or its id.
    pub fn place(&self) -> String {
        match (&self.host, self.pid) {
            (Some(host), Some(pid)) => format!("{}:{pid}", one_line(host)),
            (Some(host), None) => one_line(host),
            _ => self.id.clone(),
        }
    }
}

impl Row for RelayRow {
    const COLUMNS: &'static [&'static str] =
        &["RELAY", "STATE", "LANES", "VERSION", "STARTED", "LAST SIGN"];
    const WIDE: &'static [&'static str] = &["ID"];

    fn cells(&self) -> Vec<String> {
        let absent = || ABSENT.to_owned();
        vec![
            self.place(),
            self.state.to_owned(),
            ranges(&self.lanes),
            self.version.as_deref().map_or_else(absent, one_line),
            self.seconds.0.clone().unwrap_or_else(absent),
            self.seconds.1.clone().unwrap_or_else(absent),
            self.id.clone(),
        ]
    }
}

/// Lanes in their order, with those that follow each other as one: `0-3,7`.
fn ranges(lanes: &[i16]) -> String {
    let mut ranges: Vec<(i16, i16)> = Vec::new();
    for lane in lanes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *lane => *last = *lane,
            _ => ranges.push((*lane, *lane)),
        }
    }
    let one = |(first, last): &(i16, i16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    match ranges.is_empty() {
        true => ABSENT.to_owned(),
        false => ranges.iter().map(one).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_that_follow_each_other_are_one_range() {
        assert_eq!(ranges(&[0, 1, 2, 3, 7, 9, 10]), "0-3,7,9-10");
        assert_eq!(ranges(&[]), "-");
    }
}
