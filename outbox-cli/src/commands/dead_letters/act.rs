//! `outbox dead-letters replay` and `discard`.

use outbox::consume::{BulkOptions, DeadLetterId, DeadLetters, Progress, Resolved, Selection};
use serde::Serialize;

use super::args::{How, Which};
use super::{places, select, unknown};
use crate::context::Context;
use crate::failure::Failure;
use crate::progress::shown;

/// What is done to dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Replay,
    Discard,
}

/// What it came to.
#[derive(Debug, Serialize)]
pub struct Acted {
    action: Action,
    dry_run: bool,
    /// Number of those that were meant.
    selected: u64,
    done: u64,
    /// Number of those that cannot be replayed.
    left_out: u64,
    /// The first of their places.
    places_left_out: Vec<String>,
    dead_letter_topic: String,
    replay_topic: String,
    #[serde(skip)]
    ids_left_out: Vec<DeadLetterId>,
}

/// `does`: `false` only counts them.
///
/// # Errors
/// If a place that was named has no open dead letter that meets the conditions: nothing is done
/// then.
pub async fn run(
    action: Action,
    dead_letters: &DeadLetters,
    which: &Which,
    how: &How,
    does: bool,
) -> Result<Acted, Failure> {
    let found = select(dead_letters, which.to_filter()).await?;
    let missing = which.ids.iter().filter(|id| !found.contains(**id));
    let missing: Vec<DeadLetterId> = missing.copied().collect();
    if !missing.is_empty() {
        return Err(unknown(dead_letters, action.done(), &missing));
    }
    let selected = found.first(how.limit.unwrap_or(u64::MAX));
    let resolved = match does {
        true => action.on(dead_letters, &selected, how).await?,
        false => Resolved::default(),
    };
    let named = resolved.places_left_out.iter().map(DeadLetterId::to_string);
    Ok(Acted {
        action,
        dry_run: !does,
        selected: selected.len(),
        done: resolved.done,
        left_out: resolved.left_out,
        places_left_out: named.collect(),
        dead_letter_topic: dead_letters.dead_letter_topic(),
        replay_topic: dead_letters.replay_topic(),
        ids_left_out: resolved.places_left_out,
    })
}

impl Action {
    fn done(self) -> &'static str {
        match self {
            Self::Replay => "replayed",
            Self::Discard => "discarded",
        }
    }

    async fn on(
        self,
        dead_letters: &DeadLetters,
        selected: &Selection,
        how: &How,
    ) -> Result<Resolved, Failure> {
        let progress = Progress::new();
        let mut options = BulkOptions::new().progress(&progress);
        if let Some(rate) = how.rate {
            options = options.rate(rate);
        }
        Ok(match self {
            Self::Replay => {
                let replayed = dead_letters.replay_selected(selected, options);
                shown("replaying", &progress, replayed).await?
            }
            Self::Discard => {
                let discarded = dead_letters.discard_selected(selected, options);
                shown("discarding", &progress, discarded).await?
            }
        })
    }
}

impl Acted {
    pub fn print(&self, context: &Context) -> Result<(), Failure> {
        context.output.one(self, || self.text())
    }

    fn text(&self) -> String {
        let Self { selected, done, left_out, replay_topic, .. } = self;
        let what = self.action.done();
        if self.dry_run {
            return format!("{selected} would be {what}; nothing was done");
        }
        let mut text = format!("{what} {done}");
        if *left_out > 0 {
            text.push_str(&format!(
                "\n{left_out} cannot be replayed, because their payloads were too large for the topic of the dead letters: {}. Publish \
                 them again from the outbox (`outbox events replay`), and discard these",
                places(&self.ids_left_out, *left_out)
            ));
        }
        if self.action == Action::Replay && *done > 0 {
            text.push_str(&format!("\nthe group's consumers get them by `{replay_topic}`"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acted(action: Action, dry_run: bool, left_out: u64) -> Acted {
        let id = DeadLetterId { partition: 0, offset: 7 };
        Acted {
            action,
            dry_run,
            selected: 3,
            done: if dry_run { 0 } else { 3 - left_out },
            left_out,
            places_left_out: vec![id.to_string()],
            dead_letter_topic: "orders.inventory.dlt".to_owned(),
            replay_topic: "orders.inventory.retry.0".to_owned(),
            ids_left_out: vec![id],
        }
    }

    #[test]
    fn what_was_done_and_what_was_not_is_said() {
        let discarded = acted(Action::Discard, false, 0).text();
        assert_eq!(discarded, "discarded 3");
        let would = acted(Action::Replay, true, 0).text();
        assert_eq!(would, "3 would be replayed; nothing was done");
        let replayed = acted(Action::Replay, false, 1).text();
        for words in ["replayed 2\n", "1 cannot be replayed", "0:7", "`orders.inventory.retry.0`"] {
            assert!(replayed.contains(words), "{words}: {replayed}");
        }
    }
}
