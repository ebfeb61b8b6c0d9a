//! `outbox dead-letters`.

mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{self, Write};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use outbox::consume::{DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetters};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Format;

/// What a consumer group gave up: list, show, replay or discard it
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List those that were neither replayed nor discarded, oldest first in each partition
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Print everything that is known of some: the error, headers and payload
    Show {
        #[command(flatten)]
        target: Target,
        /// Where they are, as `list` prints it
        #[arg(required = true, value_name = "PARTITION:OFFSET")]
        ids: Vec<DeadLetterId>,
    },
    /// Have the group handle some again, and no other group
    ///
    /// They go to the topic `<prefix><topic>.<group>.retry.0`, which the group's consumers read, in
    /// the order given here. Each is tried as often as a new event, and handled once. They have no
    /// order with the later events of their keys, which may be handled already.
    Replay {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        which: Which,
    },
    /// Give some up for good
    ///
    /// They are no longer listed, and are deleted when Kafka's retention ends.
    Discard {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        which: Which,
        /// Needed with `--all`
        #[arg(long)]
        yes: bool,
    },
}

/// Whose dead letters.
#[derive(Debug, Args)]
pub struct Target {
    /// The topic of the events themselves, without the deployment's prefix
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub topic: String,
    /// The consumer group that gave them up
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub group: String,
}

/// Which of the dead letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Where they are, as `list` prints it
    #[arg(value_name = "PARTITION:OFFSET")]
    pub ids: Vec<DeadLetterId>,
    /// All that are listed when it begins
    #[arg(long)]
    pub all: bool,
}

impl Command {
    /// What clap cannot check by itself.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Discard { which: Which { all: true, .. }, yes: false, .. } => Err(
                "`discard --all` gives up every dead letter of the group for good: add `--yes` if that is what you want. \
                 Nothing was discarded"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

impl Target {
    fn dead_letters(&self, context: &Context) -> Result<DeadLetters, Failure> {
        let dead_letters = DeadLetters::builder(context.kafka()?).topic(&self.topic);
        Ok(dead_letters.topic_prefix(context.topic_prefix()).group(&self.group).build()?)
    }
}

/// Dead letters that are in memory at a time.
const PAGE: usize = 200;

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    let out = &mut io::stdout();
    match command {
        Command::List { target } => list(target, context, out).await,
        Command::Show { target, ids } => show(target, ids, context, out).await,
        Command::Replay { target, which } => replay(target, which, context, out).await,
        Command::Discard { target, which, .. } => discard(target, which, context, out).await,
    }
}

async fn list(target: &Target, context: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let json = context.output.format == Format::Json;
    let dead_letters = target.dead_letters(context)?;
    let ids = open(&dead_letters).await?;
    if ids.is_empty() && !json {
        say_there_are_none(&dead_letters);
        return Ok(());
    }
    let mut rows = Vec::new();
    for page in ids.chunks(PAGE) {
        for letter in dead_letters.get(page.iter().copied()).await? {
            if json {
                writeln!(out, "{}", render::json(&letter))?;
            } else {
                rows.push(render::row(&letter));
            }
        }
    }
    if !json {
        out.write_all(render::table(&rows).as_bytes())?;
    }
    Ok(())
}

async fn show(
    target: &Target,
    ids: &[DeadLetterId],
    context: &Context,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let dead_letters = target.dead_letters(context)?;
    let ids = chosen(ids, open(&dead_letters).await?)
        .map_err(|unknown| unknown_ids(target, context, &dead_letters, "shown", &unknown))?;
    let mut letters = Letters::new(&dead_letters, &ids);
    for (i, id) in ids.iter().enumerate() {
        let gap = if i == 0 { "" } else { "\n" };
        let shown = render::everything(&dead_letters.dead_letter_topic(), &letters.get(*id).await?);
        write!(out, "{gap}{shown}")?;
    }
    Ok(())
}

async fn replay(
    target: &Target,
    which: &Which,
    context: &Context,
    out: &mut impl Write,
) -> Result<(), Failure> {
    const REPLAY: Action = Action {
        done: "replayed",
        in_doubt: "may have been replayed too: it is listed still, and replayed again it is handled once",
    };
    let dead_letters = target.dead_letters(context)?;
    let ids = ids_of(which, target, context, &dead_letters, &REPLAY).await?;
    let mut letters = Letters::new(&dead_letters, &ids);
    let act = async |id| Ok::<_, Failure>(dead_letters.replay(&letters.get(id).await?).await?);
    each(&ids, &REPLAY, out, act).await?;
    if !ids.is_empty() {
        let topic = dead_letters.replay_topic();
        say(out, format_args!("the consumers of `{}` get them by `{topic}`", target.group));
    }
    Ok(())
}

async fn discard(
    target: &Target,
    which: &Which,
    context: &Context,
    out: &mut impl Write,
) -> Result<(), Failure> {
    const DISCARD: Action = Action {
        done: "discarded",
        in_doubt: "may have been discarded too: if it is listed still, discard it again",
    };
    let dead_letters = target.dead_letters(context)?;
    let ids = ids_of(which, target, context, &dead_letters, &DISCARD).await?;
    let mut letters = Letters::new(&dead_letters, &ids);
    let act = async |id| Ok::<_, Failure>(dead_letters.discard(&letters.get(id).await?).await?);
    each(&ids, &DISCARD, out, act).await
}

async fn open(dead_letters: &DeadLetters) -> Result<Vec<DeadLetterId>, Failure> {
    Ok(dead_letters.select(DeadLetterFilter::all()).await?.ids().collect())
}

/// Dead letters that are asked for in the order of their ids, and read a page at a time.
struct Letters<'a> {
    dead_letters: &'a DeadLetters,
    /// Ids that are not read yet.
    ids: &'a [DeadLetterId],
    page: BTreeMap<DeadLetterId, DeadLetter>,
}

impl<'a> Letters<'a> {
    fn new(dead_letters: &'a DeadLetters, ids: &'a [DeadLetterId]) -> Self {
        Self { dead_letters, ids, page: BTreeMap::new() }
    }

    async fn get(&mut self, id: DeadLetterId) -> Result<DeadLetter, Failure> {
        if self.page.is_empty() {
            let (page, rest) = self.ids.split_at(self.ids.len().min(PAGE));
            let letters = self.dead_letters.get(page.iter().copied()).await?;
            self.page = letters.into_iter().map(|letter| (letter.id(), letter)).collect();
            self.ids = rest;
        }
        let gone = || Failure::failed("Kafka has deleted it from its topic in the meantime");
        self.page.remove(&id).ok_or_else(gone)
    }
}

async fn ids_of(
    which: &Which,
    target: &Target,
    context: &Context,
    dead_letters: &DeadLetters,
    action: &Action,
) -> Result<Vec<DeadLetterId>, Failure> {
    let listed = open(dead_letters).await?;
    if which.all {
        if listed.is_empty() {
            say_there_are_none(dead_letters);
        }
        return Ok(listed);
    }
    chosen(&which.ids, listed)
        .map_err(|unknown| unknown_ids(target, context, dead_letters, action.done, &unknown))
}

/// These, in their order, each once; or those of them that are not listed.
fn chosen(
    ids: &[DeadLetterId],
    listed: Vec<DeadLetterId>,
) -> Result<Vec<DeadLetterId>, Vec<DeadLetterId>> {
    let mut listed: BTreeSet<DeadLetterId> = listed.into_iter().collect();
    let unknown: Vec<DeadLetterId> =
        ids.iter().filter(|id| !listed.contains(id)).copied().collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    Ok(ids.iter().filter(|id| listed.remove(id)).copied().collect())
}

fn unknown_ids(
    target: &Target,
    context: &Context,
    dead_letters: &DeadLetters,
    done: &str,
    unknown: &[DeadLetterId],
) -> Failure {
    let (topic, ids) = (dead_letters.dead_letter_topic(), joined(unknown));
    let prefix = match context.topic_prefix() {
        "" => String::new(),
        prefix => format!(" --topic-prefix {prefix}"),
    };
    Failure::failed(format!(
        "there is no dead letter at {ids} on `{topic}`, and nothing was {done}. It may have been replayed or discarded \
         before: `outbox dead-letters list --topic {}{prefix} --group {}` lists what there is",
        target.topic, target.group
    ))
}

/// What is done to dead letters.
struct Action {
    done: &'static str,
    /// About one for which it failed, because only the answer may be missing.
    in_doubt: &'static str,
}

/// Does it to one after the other, and stops at the first failure. What was done and what was not
/// is said in any case.
async fn each<E: Display>(
    ids: &[DeadLetterId],
    action: &Action,
    out: &mut impl Write,
    mut act: impl AsyncFnMut(DeadLetterId) -> Result<(), E>,
) -> Result<(), Failure> {
    let Action { done, in_doubt } = action;
    for (i, id) in ids.iter().enumerate() {
        if let Err(error) = act(*id).await {
            let (before, after) = (joined(&ids[..i]), joined(&ids[i + 1..]));
            return Err(Failure::failed(format!(
                "{id} was not {done}: {error}\n{done}: {before}\nin doubt: {id} {in_doubt}\nnot {done}: {after}"
            )));
        }
        say(out, format_args!("{done} {id}"));
    }
    Ok(())
}

fn joined(ids: &[DeadLetterId]) -> String {
    let ids: Vec<String> = ids.iter().map(DeadLetterId::to_string).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

/// Errors of printing are ignored: the action is done, and the next one must not be skipped.
fn say(out: &mut impl Write, what: impl Display) {
    let _ = writeln!(out, "{what}");
}

/// On stderr, so that a program that reads the list reads an empty one.
fn say_there_are_none(dead_letters: &DeadLetters) {
    let topic = dead_letters.dead_letter_topic();
    let text = format!(
        "no dead letters on `{topic}`, or no such topic: are --topic, --topic-prefix and --group what they should be?"
    );
    say(&mut io::stderr(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTION: Action = Action { done: "replayed", in_doubt: "may have been replayed too" };

    fn id(offset: i64) -> DeadLetterId {
        DeadLetterId { partition: 0, offset }
    }

    fn four() -> Vec<DeadLetterId> {
        (0..4).map(id).collect()
    }

    #[test]
    fn dead_letters_are_chosen_in_the_order_given_and_each_once() {
        assert_eq!(chosen(&[id(3), id(1), id(3)], four()).unwrap(), [id(3), id(1)]);
    }

    #[test]
    fn with_an_unknown_place_none_is_chosen() {
        assert_eq!(chosen(&[id(0), id(9), id(7)], four()).unwrap_err(), [id(9), id(7)]);
    }

    #[tokio::test]
    async fn what_was_done_and_what_was_not_is_said_when_one_fails() {
        let mut out = Vec::new();
        let act = async |id: DeadLetterId| {
            if id.offset == 2 { Err("no broker answers") } else { Ok(()) }
        };
        let failure = each(&four(), &ACTION, &mut out, act).await.unwrap_err().to_string();
        assert_eq!(String::from_utf8(out).unwrap(), "replayed 0:0\nreplayed 0:1\n");
        assert_eq!(
            failure,
            "0:2 was not replayed: no broker answers\nreplayed: 0:0, 0:1\nin doubt: 0:2 may have been replayed too\n\
             not replayed: 0:3"
        );
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_does_not_stop_a_replay() {
        let mut done = 0;
        let act = async |_: DeadLetterId| {
            done += 1;
            Ok::<_, String>(())
        };
        let mut full: &mut [u8] = &mut [0; 3];
        each(&four(), &ACTION, &mut full, act).await.unwrap();
        assert_eq!(done, 4);
    }
}
