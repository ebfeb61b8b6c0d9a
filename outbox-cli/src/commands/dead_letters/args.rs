//! The arguments of `outbox dead-letters`.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use outbox::consume::{DeadLetterFilter, DeadLetterId};
use uuid::Uuid;

use crate::confirm::Confirm;
use crate::values;

/// What a consumer group gave up: list, count, show, replay, discard or export it
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List those that were neither replayed nor discarded, oldest first in each partition
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        filter: Filter,
        /// Most that are listed; `export` has no limit
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Count those that were neither replayed nor discarded
    Count {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        filter: Filter,
        /// Counts each kind apart, the most frequent first
        #[arg(long, value_enum, value_name = "WHAT")]
        by: Option<By>,
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
    /// They go to the topic `<prefix><topic>.<group>.retry.0`, which the group's consumers read,
    /// those of a key in their order. Each is tried as often as a new event, and handled once. They
    /// have no order with the later events of their keys, which may be handled already.
    ///
    /// A replay that ends early, even killed, is continued by the same command.
    Replay {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
        /// Says how many would be replayed, and does nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Give some up for good
    ///
    /// They are no longer listed, and are deleted when Kafka's retention ends.
    Discard {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Write everything that is known of them, as one JSON object a line
    Export {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        filter: Filter,
        /// Most that are exported [default: all]
        #[arg(long)]
        limit: Option<u64>,
        /// A new file to write to [default: the standard output]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
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

/// What dead letters must be like. An option that is repeated means any of its values.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub struct Filter {
    /// Class of the last error: transient, permanent or undecodable
    #[arg(long, value_name = "CLASS", value_parser = ["transient", "permanent", "undecodable"], hide_possible_values = true)]
    pub class: Vec<String>,
    /// Pattern of the whole last error: `*` is any text, `?` a character, as in '*timeout*'
    #[arg(long, value_name = "GLOB")]
    pub error: Vec<String>,
    /// Pattern of the event's name, as in 'order.*'
    #[arg(long, value_name = "GLOB")]
    pub name: Vec<String>,
    /// Key of the event
    #[arg(long)]
    pub key: Vec<String>,
    /// Id of the event
    #[arg(value_parser = values::event_id, long, value_name = "UUID")]
    pub event_id: Vec<Uuid>,
    /// Last failed then or later: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 5m
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub since: Option<SystemTime>,
    /// Last failed before
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub until: Option<SystemTime>,
}

/// Which of the dead letters: some places, or all that meet conditions.
#[derive(Debug, Args)]
pub struct Which {
    /// Where they are, as `list` prints it
    #[arg(value_name = "PARTITION:OFFSET", conflicts_with = "all")]
    pub ids: Vec<DeadLetterId>,
    /// All that are open when it begins
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// How many dead letters, and how fast.
#[derive(Debug, Args)]
pub struct How {
    /// Most of them [default: all]
    #[arg(long)]
    pub limit: Option<u64>,
    /// Most in a time, such as 500/s or 30/m [default: as many as Kafka takes]
    #[arg(long, value_parser = values::per_second)]
    pub rate: Option<f64>,
}

/// What dead letters are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Class of the last error
    Class,
    /// First line of the last error
    Error,
    /// Name of the event
    Name,
    /// Key of the event
    Key,
}

impl Command {
    /// What clap cannot check by itself.
    pub fn check(&self) -> Result<(), String> {
        let (Self::Replay { which, .. } | Self::Discard { which, .. }) = self else {
            return Ok(());
        };
        if !which.ids.is_empty() || which.all || !which.filter.is_empty() {
            return Ok(());
        }
        Err("say which dead letters: by their places (PARTITION:OFFSET, as `list` prints them), by conditions such as `--class` and \
             `--error`, or by `--all`. Nothing was done"
            .to_owned())
    }
}

impl Filter {
    fn is_empty(&self) -> bool {
        let Self { class, error, name, key, event_id, since, until } = self;
        [class, error, name, key].iter().all(|texts| texts.is_empty())
            && event_id.is_empty()
            && since.is_none()
            && until.is_none()
    }

    pub fn to_filter(&self) -> DeadLetterFilter {
        let Self { class, error, name, key, event_id, since, until } = self;
        let mut filter = DeadLetterFilter::all();
        filter = class.iter().fold(filter, |filter, class| filter.class(class));
        filter = error.iter().fold(filter, |filter, error| filter.error(error));
        filter = name.iter().fold(filter, |filter, name| filter.name(name));
        filter = key.iter().fold(filter, |filter, key| filter.key(key.as_bytes()));
        filter = event_id.iter().fold(filter, |filter, id| filter.event_id(*id));
        filter = since.iter().fold(filter, |filter, since| filter.failed_from(*since));
        until.iter().fold(filter, |filter, until| filter.failed_before(*until))
    }
}

impl Which {
    pub fn to_filter(&self) -> DeadLetterFilter {
        let filter = self.filter.to_filter();
        if self.ids.is_empty() { filter } else { filter.ids(self.ids.iter().copied()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::args::{Cli, parsed_words};

    fn parsed(command: &str, more: &[&str]) -> Result<Cli, clap::Error> {
        let target = ["--topic", "orders", "--group", "inventory"];
        parsed_words(&[&["dead-letters", command][..], &target, more].concat())
    }

    #[test]
    fn what_is_acted_on_is_said_by_place_by_condition_or_by_all() {
        for said in [
            &["0:1"][..],
            &["--all"],
            &["--key", "a"],
            &["--since", "1h"],
            &["--class", "permanent", "--error", "*a*", "--error", "*b*"],
        ] {
            assert!(parsed("replay", said).is_ok(), "{said:?}");
        }
        for (command, wrong, hint) in [
            ("replay", &[][..], "Nothing was done"),
            ("discard", &["--yes"], "Nothing was done"),
            ("show", &[], "PARTITION:OFFSET"),
            ("replay", &["--all", "0:1"], "cannot be used with"),
            ("replay", &["first"], "`0:42`"),
            ("replay", &["--all", "--rate", "0"], "500/s"),
            ("discard", &["--all", "--yes", "--dry-run"], "cannot be used with"),
            ("list", &["--class", "weird"], "transient"),
            ("list", &["--limit", "0"], "1..=10000"),
        ] {
            let error = parsed(command, wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{command} {wrong:?}");
            assert!(error.to_string().contains(hint), "{command} {wrong:?}: {error}");
        }
    }
}
