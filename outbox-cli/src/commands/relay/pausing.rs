//! `outbox relay pause` and `outbox relay resume`.

use clap::Args;
use outbox::admin::{LANES, Lane, PauseScope};
use serde::Serialize;

use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::text::one_line;
use crate::times;

/// What is paused or resumed: everything, unless a lane or a topic is named.
#[derive(Debug, Args)]
pub struct Scope {
    /// Only this lane
    #[arg(long, value_name = "NUMBER", conflicts_with = "topic", value_parser = clap::value_parser!(i16).range(0..LANES as i64))]
    lane: Option<i16>,
    /// Only this topic, as its events declare it
    #[arg(long)]
    topic: Option<String>,
}

#[derive(Debug, Args)]
pub struct Pause {
    #[command(flatten)]
    scope: Scope,
    /// Why, for those who see it in `outbox status`
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who pauses it [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Scope {
    fn scope(&self) -> PauseScope {
        match (&self.topic, self.lane.and_then(Lane::new)) {
            (Some(topic), _) => PauseScope::Topic(topic.clone()),
            (None, Some(lane)) => PauseScope::Lane(lane),
            (None, None) => PauseScope::All,
        }
    }
}

pub async fn pause(args: &Pause, context: &Context) -> Result<(), Failure> {
    let scope = args.scope.scope();
    let by = args.by.clone().unwrap_or_else(user);
    with_outbox!(context.outbox().await?, outbox => outbox.pause(&scope, &args.reason, &by).await?);
    done(context, &scope, "paused", true)
}

pub async fn resume(args: &Scope, context: &Context) -> Result<(), Failure> {
    let scope = args.scope();
    let was_paused = with_outbox!(context.outbox().await?, outbox => outbox.resume(&scope).await?);
    done(context, &scope, "resumed", was_paused)
}

fn done(
    context: &Context,
    scope: &PauseScope,
    what: &'static str,
    changed: bool,
) -> Result<(), Failure> {
    let (kind, lane, topic) = parts(scope);
    let report = Done { scope: kind, lane, topic, what, changed };
    context.output.one(&report, || {
        let scope = one_line(&scope.to_string());
        if changed { format!("{what} {scope}") } else { format!("{scope} was not paused") }
    })
}

#[derive(Debug, Serialize)]
struct Done {
    scope: &'static str,
    lane: Option<i16>,
    topic: Option<String>,
    what: &'static str,
    changed: bool,
}

/// A pause as it is printed.
#[derive(Debug, Serialize)]
pub struct PauseRow {
    scope: &'static str,
    lane: Option<i16>,
    topic: Option<String>,
    reason: String,
    by: String,
    since: Option<String>,
}

impl From<&outbox::admin::Pause> for PauseRow {
    fn from(pause: &outbox::admin::Pause) -> Self {
        let (scope, lane, topic) = parts(&pause.scope);
        Self {
            scope,
            lane,
            topic,
            reason: pause.reason.clone(),
            by: pause.by.clone(),
            since: times::exact(pause.since),
        }
    }
}

fn parts(scope: &PauseScope) -> (&'static str, Option<i16>, Option<String>) {
    match scope {
        PauseScope::Lane(lane) => ("lane", Some(lane.number()), None),
        PauseScope::Topic(topic) => ("topic", None, Some(topic.clone())),
        _ => ("all", None, None),
    }
}

/// The user of this machine, as its environment says.
pub fn user() -> String {
    let variables = ["USER", "LOGNAME", "USERNAME"];
    let mut named = variables.iter().filter_map(|name| std::env::var(name).ok());
    named.find(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
