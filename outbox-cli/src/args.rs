//! Command-line arguments.

use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use outbox::OutboxError;
use outbox::consume::{self, DeadLetterId};
use outbox::kafka::KafkaConfig;

/// Operates an outbox and its consumers.
#[derive(Debug, Parser)]
#[command(name = "outbox", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// What a consumer group gave up: list, show, replay or discard it
    #[command(subcommand)]
    DeadLetters(DeadLetters),
}

#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List those that were neither replayed nor discarded, oldest first in each partition
    List {
        #[command(flatten)]
        target: Target,
        /// Everything that is known of each, as one JSON object a line
        #[arg(long)]
        json: bool,
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
    /// The brokers, as HOST:PORT, separated by commas
    #[arg(long, env = "KAFKA_BROKERS", value_parser = NonEmptyStringValueParser::new())]
    pub brokers: String,
    /// The topic of the events themselves, without the deployment's prefix
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub topic: String,
    /// The deployment's topic prefix, if it has one
    #[arg(long, default_value = "", hide_default_value = true)]
    pub topic_prefix: String,
    /// The consumer group that gave them up
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub group: String,
    /// A property of librdkafka that says how to reach the brokers, such as
    /// `security.protocol=ssl`; several are allowed
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = PropertyParser)]
    pub properties: Vec<Property>,
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

/// Its value may be secret: no `Debug` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: String,
}

/// clap would print an argument that it does not understand, a password among them.
#[derive(Clone)]
struct PropertyParser;

impl Cli {
    /// Parses the arguments, the first of which is the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let cli = Self::try_parse_from(arguments)?;
        let Command::DeadLetters(command) = &cli.command;
        if let DeadLetters::Discard { which: Which { all: true, .. }, yes: false, .. } = command {
            return Err(Self::command().error(
                ErrorKind::MissingRequiredArgument,
                "`discard --all` gives up every dead letter of the group for good: add `--yes` if that is what you want. \
                 Nothing was discarded",
            ));
        }
        Ok(cli)
    }
}

impl Target {
    pub fn dead_letters(&self) -> Result<consume::DeadLetters, OutboxError> {
        let properties = self.properties.iter().map(|property| (&property.name, &property.value));
        let kafka = KafkaConfig::new(&self.brokers).properties(properties);
        let dead_letters = consume::DeadLetters::builder(kafka).topic(&self.topic);
        dead_letters.topic_prefix(&self.topic_prefix).group(&self.group).build()
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

impl TypedValueParser for PropertyParser {
    type Value = Property;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        text: &OsStr,
    ) -> Result<Property, clap::Error> {
        match text.to_str().and_then(|text| text.split_once('=')) {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(Property { name: name.trim().to_owned(), value: value.to_owned() })
            }
            _ => Err(clap::Error::raw(
                ErrorKind::ValueValidation,
                "`--property` expects NAME=VALUE, such as `security.protocol=ssl`; what was given is not shown, for it may \
                 be secret\n",
            )
            .with_cmd(command)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: [&str; 6] =
        ["--brokers", "localhost:9092", "--topic", "orders", "--group", "inventory"];

    fn parsed(command: &str, more: &[&str]) -> Result<DeadLetters, clap::Error> {
        let words = ["outbox", "dead-letters", command]
            .into_iter()
            .chain(TARGET)
            .chain(more.iter().copied());
        let Command::DeadLetters(command) = Cli::parse(words.map(OsString::from))?.command;
        Ok(command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_value_of_a_property_may_have_an_equals_sign_and_is_never_shown() {
        let list = parsed("list", &["--property", "sasl.password=hunter2=b"]).unwrap();
        assert!(!format!("{list:?}").contains("hunter2"), "{list:?}");
        let DeadLetters::List { target, .. } = list else { panic!("another command") };
        let property = &target.properties[0];
        assert_eq!((&*property.name, &*property.value), ("sasl.password", "hunter2=b"));
        for wrong in ["sasl.password:hunter2", "=hunter2"] {
            let error = parsed("list", &["--property", wrong]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("NAME=VALUE"), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn every_command_says_whose_dead_letters_it_is_about() {
        let DeadLetters::List { target, json } = parsed("list", &["--json"]).unwrap() else {
            panic!("another command")
        };
        assert_eq!(
            (&*target.brokers, &*target.topic, &*target.group, json),
            ("localhost:9092", "orders", "inventory", true)
        );
        assert_eq!(target.dead_letters().unwrap().dead_letter_topic(), "orders.inventory.dlt");
        let DeadLetters::List { target, .. } =
            parsed("list", &["--topic-prefix", "staging-"]).unwrap()
        else {
            panic!("another command")
        };
        let dead_letters = target.dead_letters().unwrap();
        assert_eq!(dead_letters.dead_letter_topic(), "staging-orders.inventory.dlt");
        let properties = ["--property", "client.id=me", "--property", "security.protocol=ssl"];
        let DeadLetters::Show { target, ids } =
            parsed("show", &[&properties[..], &["0:1", "2:3"]].concat()).unwrap()
        else {
            panic!("another command")
        };
        assert_eq!(target.properties.len(), 2);
        assert_eq!(
            ids,
            [DeadLetterId { partition: 0, offset: 1 }, DeadLetterId { partition: 2, offset: 3 }]
        );
    }

    #[test]
    fn what_is_changed_is_said_by_place_or_by_all_and_not_by_both() {
        assert!(parsed("replay", &["0:1"]).is_ok() && parsed("replay", &["--all"]).is_ok());
        for (command, more) in [
            ("show", &[][..]),
            ("show", &["--all"]),
            ("replay", &[]),
            ("replay", &["--all", "0:1"]),
            ("replay", &["0"]),
            ("discard", &[]),
            ("discard", &["--all", "--yes", "0:1"]),
        ] {
            assert_eq!(parsed(command, more).unwrap_err().exit_code(), 2, "{command} {more:?}");
        }
    }

    #[test]
    fn all_are_discarded_only_on_an_explicit_yes() {
        assert!(parsed("discard", &["--all", "--yes"]).is_ok());
        assert!(parsed("discard", &["0:1"]).is_ok());
        let error = parsed("discard", &["--all"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("add `--yes`"), "{error}");
    }
}
