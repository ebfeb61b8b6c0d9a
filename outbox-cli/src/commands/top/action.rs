//! What keys have done to the outbox.

use std::time::Duration;

use outbox::admin::{ParkedFilter, PauseScope};
use outbox::{Outbox, OutboxDatabase, OutboxError};

use super::state::Action;
use crate::commands::relay::user;
use crate::failure::Failure;

/// Does it. Returns what was done, in words.
pub async fn done<DB: OutboxDatabase>(
    action: &Action,
    outbox: &Outbox<DB>,
    within: Duration,
) -> Result<String, Failure> {
    match tokio::time::timeout(within, asked(action, outbox)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failure::unreachable(format!(
            "the database did not answer within {}: it may be done all the same, which is shown once it answers",
            humantime::format_duration(within)
        ))),
    }
}

async fn asked<DB: OutboxDatabase>(
    action: &Action,
    outbox: &Outbox<DB>,
) -> Result<String, OutboxError> {
    Ok(match action {
        Action::Pause { reason } => {
            outbox.pause(&PauseScope::All, reason, &user()).await?;
            "paused: relays publish nothing more within 2 s".to_owned()
        }
        Action::Resume if outbox.resume(&PauseScope::All).await? => "resumed".to_owned(),
        Action::Resume => "it was not paused any more".to_owned(),
        Action::ReleaseAll => released(outbox.release_all_parked().await?),
        Action::Release { topics } => {
            let mut events = 0;
            for topic in topics {
                let of_topic = ParkedFilter::all().topic(topic);
                events += outbox.release_parked_where(&of_topic).await?;
            }
            released(events)
        }
    })
}

fn released(events: u64) -> String {
    let are = if events == 1 { "event is" } else { "events are" };
    format!("{events} parked {are} tried again")
}
