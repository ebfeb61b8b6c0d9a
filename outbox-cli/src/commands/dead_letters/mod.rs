//! `outbox dead-letters`.

mod act;
mod args;
mod count;
mod export;
mod row;
mod show;

use outbox::consume::{DeadLetterFilter, DeadLetterId, DeadLetters, Progress, Selection};

pub use args::Command;

use act::Action;
use args::{Filter, Target};
use row::LetterRow;

use crate::context::Context;
use crate::failure::Failure;
use crate::progress::shown;

/// Places that a text names; the others are counted.
const NAMED: usize = 20;

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::List { target, filter, limit } => {
            list(&target.dead_letters(context)?, filter, *limit, context).await
        }
        Command::Count { target, filter, by } => {
            count::run(&target.dead_letters(context)?, filter, *by, context).await
        }
        Command::Show { target, ids } => {
            show::run(&target.dead_letters(context)?, ids, context).await
        }
        Command::Export { target, filter, limit, file } => {
            let to = export::To { limit: *limit, file: file.as_deref() };
            export::run(&target.dead_letters(context)?, filter, to, context).await
        }
        Command::Replay { target, which, how, dry_run } => {
            let dead_letters = target.dead_letters(context)?;
            act::run(Action::Replay, &dead_letters, which, how, !dry_run).await?.print(context)
        }
        Command::Discard { target, which, how, confirm } => {
            let does = confirm.is_to_be_done("gives dead letters up for good")?;
            let dead_letters = target.dead_letters(context)?;
            act::run(Action::Discard, &dead_letters, which, how, does).await?.print(context)
        }
    }
}

impl Target {
    fn dead_letters(&self, context: &Context) -> Result<DeadLetters, Failure> {
        let dead_letters = DeadLetters::builder(context.kafka()?).topic(&self.topic);
        Ok(dead_letters.topic_prefix(context.topic_prefix()).group(&self.group).build()?)
    }
}

/// The open dead letters that are meant. Reads the whole topic, and shows how far it is.
async fn select(
    dead_letters: &DeadLetters,
    filter: DeadLetterFilter,
) -> Result<Selection, Failure> {
    let progress = Progress::new();
    let selected = dead_letters.select_with(filter, &progress);
    Ok(shown("reading", &progress, selected).await?)
}

async fn list(
    dead_letters: &DeadLetters,
    filter: &Filter,
    limit: u32,
    context: &Context,
) -> Result<(), Failure> {
    let found = select(dead_letters, filter.to_filter()).await?;
    if found.is_empty() {
        say_there_are_none(dead_letters, context);
    }
    let count = found.len();
    let first = found.first(limit.into());
    let mut list = context.output.list_of::<LetterRow>();
    let mut letters = dead_letters.read(&first);
    while let Some(letter) = letters.next().await? {
        list.push(&LetterRow::new(dead_letters, letter))?;
    }
    list.end()?;
    if count > u64::from(limit) {
        context.output.say(format_args!("{limit} of {count} dead letters: `--limit` lists more"));
    }
    Ok(())
}

/// On stderr, so that a program that reads the list reads an empty one.
fn say_there_are_none(dead_letters: &DeadLetters, context: &Context) {
    context.output.say(format_args!(
        "no such dead letters on `{}`, if there is such a topic. If you expected some, check --topic, --topic-prefix and --group",
        dead_letters.dead_letter_topic()
    ));
}

fn unknown(dead_letters: &DeadLetters, done: &str, ids: &[DeadLetterId]) -> Failure {
    Failure::failed(format!(
        "there is no such dead letter at {} on `{}`, and nothing was {done}. It may have been replayed or discarded before: `outbox \
         dead-letters list` with the same options lists what there is",
        places(ids, ids.len() as u64),
        dead_letters.dead_letter_topic()
    ))
}

/// The first of these places, and how many more there are.
fn places(ids: &[DeadLetterId], count: u64) -> String {
    let named: Vec<String> = ids.iter().take(NAMED).map(DeadLetterId::to_string).collect();
    let more = count.saturating_sub(named.len() as u64);
    let named = named.join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_some_places_and_counts_the_others() {
        let ids: Vec<_> = (0..30).map(|offset| DeadLetterId { partition: 1, offset }).collect();
        assert_eq!(places(&ids[..2], 2), "1:0, 1:1");
        assert!(places(&ids, 1_000).ends_with("1:18, 1:19 and 980 more"));
    }
}
