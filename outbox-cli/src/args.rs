//! The options that all commands have, and how the arguments are parsed.
//!
//! An option counts before a variable of the environment, and that before the file: see
//! `settings`. The options of a single command, too, may come from a variable or the file: those
//! that its arguments declare with `env`. `OUTBOX_RELAY_LEASE` is `lease` in the table `[relay]`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

use crate::commands::Command;
use crate::failure::Failure;
use crate::file::{self, File};
use crate::output::{Color, Format};
use crate::settings::Settings;
use crate::values;

/// Operates a transactional outbox: its tables, relays, parked events and dead letters
///
/// The exit code is 0 for success, 1 if something failed, 2 for wrong arguments, 3 if a condition
/// that was asked about is true, 69 if the database or Kafka does not answer, 78 if a setting is
/// wrong, and 100 if a change of events would break consumers.
#[derive(Debug, Parser)]
#[command(name = "outbox", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands. Their values are taken from `Settings`, which knows the variables and
/// the file as well.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Global {
    /// The database of the outbox: postgres://…, mysql://… or sqlite:… [env: OUTBOX_DATABASE_URL,
    /// DATABASE_URL, PGHOST and the other variables of libpq]
    ///
    /// A password does not belong here, where every user of the machine can see it: put it into a
    /// variable, into ~/.pgpass, or the URL into a file that OUTBOX_DATABASE_URL_FILE names.
    #[arg(short = 'D', long, global = true, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// Schema of the outbox's tables (Postgres; on MySQL, a database) [default: that of the
    /// search_path] [env: OUTBOX_SCHEMA]
    #[arg(long, global = true, value_name = "NAME")]
    pub schema: Option<String>,
    /// What the names of the outbox's tables begin with [default: outbox_] [env:
    /// OUTBOX_TABLE_PREFIX]
    #[arg(long, global = true, value_name = "PREFIX")]
    pub table_prefix: Option<String>,
    /// The Kafka brokers, as HOST:PORT, separated by commas [env: OUTBOX_BROKERS, KAFKA_BROKERS]
    #[arg(short, long, global = true, value_name = "BROKERS")]
    pub brokers: Option<String>,
    /// What the names of this deployment's topics begin with on the brokers [env:
    /// OUTBOX_TOPIC_PREFIX]
    #[arg(long, global = true, value_name = "PREFIX")]
    pub topic_prefix: Option<String>,
    /// A property of librdkafka, such as security.protocol=ssl; several are allowed
    #[arg(short = 'X', long = "property", global = true, value_name = "NAME=VALUE", value_parser = PropertyParser)]
    pub properties: Vec<Property>,
    /// A file with properties of librdkafka, one NAME=VALUE a line [env: OUTBOX_KAFKA_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub kafka_config: Option<PathBuf>,
    /// The file with settings [default: outbox.toml in this folder, if there is one] [env:
    /// OUTBOX_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How data is printed [default: table] [env: OUTBOX_OUTPUT]
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub output: Option<Format>,
    /// Whether output is coloured: auto, always or never [default: auto] [env: OUTBOX_COLOR]
    #[arg(long, global = true, value_enum, value_name = "WHEN", hide_possible_values = true)]
    pub color: Option<Color>,
    /// Longest time to wait for one answer of the database [default: 10s] [env:
    /// OUTBOX_STATEMENT_TIMEOUT]
    #[arg(long, global = true, value_name = "DURATION", value_parser = values::positive_duration)]
    pub statement_timeout: Option<Duration>,
    /// How log lines are written to stderr: text or json [default: text] [env: OUTBOX_LOG_FORMAT]
    #[arg(long, global = true, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    pub log_format: Option<LogFormat>,
    /// Logs more; twice, all
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Logs less; twice, nothing
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// A text that no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// A property of librdkafka. Its value may be secret: no `Debug` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: String,
}

/// clap would print an argument that it does not understand, a password among them.
#[derive(Clone)]
struct PropertyParser;

/// Parses the arguments, the first of which is the program's name. Ends the process for `--help`
/// and for arguments that are wrong.
pub fn parse(arguments: Vec<OsString>) -> Result<(Cli, Settings), Failure> {
    let env = |name: &str| std::env::var_os(name);
    let file = File::find(file::named_in(&arguments), &env)?;
    match parsed(arguments, file.as_ref())? {
        Ok(cli) => {
            let mut settings = Settings::new(&cli.global, &env, file.as_ref())?;
            settings.collector = cli.command.collector().cloned();
            Ok((cli, settings))
        }
        Err(error) => error.exit(),
    }
}

/// The inner result is what clap has to say.
fn parsed(
    arguments: Vec<OsString>,
    file: Option<&File>,
) -> Result<Result<Cli, clap::Error>, Failure> {
    let command = match file {
        None => Cli::command(),
        Some(file) => file.as_defaults_of(Cli::command())?,
    };
    let matches = command.try_get_matches_from(arguments);
    Ok(matches.and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        cli.command
            .check()
            .map_err(|what| Cli::command().error(ErrorKind::MissingRequiredArgument, what))?;
        Ok(cli)
    }))
}

/// What the tests of commands parse: `words` without the name of the program.
#[cfg(test)]
pub fn parsed_words(words: &[&str]) -> Result<Cli, clap::Error> {
    let words = std::iter::once("outbox").chain(words.iter().copied()).map(OsString::from);
    parsed(words.collect(), None).expect("no file, so no error of it")
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
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

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_option_of_all_commands_may_stand_before_or_after_the_command() {
        for words in [["-o", "json", "status"], ["status", "-o", "json"]] {
            assert_eq!(parsed_words(&words).unwrap().global.output, Some(Format::Json));
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let cli = parsed_words(&[
            "-D",
            "postgres://me:hunter2@db/orders",
            "-X",
            "sasl.password=hunter2=b",
            "status",
        ]);
        let cli = cli.unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"), "{cli:?}");
        let property = &cli.global.properties[0];
        assert_eq!((&*property.name, &*property.value), ("sasl.password", "hunter2=b"));
        for wrong in ["sasl.password:hunter2", "=hunter2"] {
            let error = parsed_words(&["status", "-X", wrong]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("NAME=VALUE"), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
