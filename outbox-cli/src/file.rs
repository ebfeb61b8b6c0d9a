//! The file with settings, `outbox.toml`:
//!
//! ```toml
//! database-url = "postgres://relay@db/orders"
//! brokers = "kafka-1:9092,kafka-2:9092"
//!
//! [kafka]
//! security.protocol = "ssl"
//!
//! [relay]
//! lease = "5s"
//! ```
//!
//! A key is known by the name of its variable: `lease` in `[relay]` is `OUTBOX_RELAY_LEASE`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use toml::{Table, Value};

use crate::failure::Failure;
use crate::settings::names::GLOBAL;

const NAME: &str = "outbox.toml";
const VARIABLE: &str = "OUTBOX_CONFIG";
/// The table with properties of librdkafka, whose names are not ours.
const KAFKA: &str = "kafka";
/// Most bytes of a file with settings, or with one of them.
const LARGEST: u64 = 1024 * 1024;

/// What a file says.
#[derive(Debug)]
pub struct File {
    pub path: PathBuf,
    /// By the name of its variable: the key as it is written, and the value.
    values: BTreeMap<String, (String, String)>,
    /// Properties of librdkafka.
    pub kafka: Vec<(String, String)>,
}

/// The file that `--config` names. It is read before the arguments are parsed, since it says which
/// defaults they have.
pub fn named_in(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    None
}

impl File {
    /// Reads the file that is named by an argument or by a variable, or the one in this folder, if
    /// there is one.
    pub fn find(
        named: Option<PathBuf>,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, Failure> {
        let by_variable = || env(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let (path, must_be_there) = match named.or_else(by_variable) {
            Some(path) => (path, true),
            None => (PathBuf::from(NAME), false),
        };
        match read_bounded(&path) {
            Ok(text) => Self::parsed(path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_be_there => Ok(None),
            Err(error) => Err(Failure::configuration(format!(
                "cannot read the settings in {}: {error}. Nothing was done",
                path.display()
            ))),
        }
    }

    fn parsed(path: PathBuf, text: &str) -> Result<Self, Failure> {
        let wrong = |what: String| {
            Failure::configuration(format!("{}: {what}. Nothing was done", path.display()))
        };
        // The error's own text shows the line, which may be a secret.
        let mut table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            wrong(format!("line {line}: {}", error.message()))
        })?;
        let kafka = match table.remove(KAFKA) {
            None => Vec::new(),
            Some(Value::Table(kafka)) => leaves(kafka).map_err(&wrong)?,
            Some(_) => return Err(wrong(format!("`{KAFKA}` must be a table"))),
        };
        let mut values = BTreeMap::new();
        for (key, value) in leaves(table).map_err(&wrong)? {
            values.insert(variable(&key), (key, value));
        }
        Ok(Self { path, values, kafka })
    }

    /// The value of a setting, by the name of its variable.
    pub fn get(&self, variable: &str) -> Option<&str> {
        self.values.get(variable).map(|(_, value)| &**value)
    }

    /// The command, with the values of this file as the defaults of its options.
    ///
    /// # Errors
    /// If a key is no setting.
    pub fn as_defaults_of(&self, command: Command) -> Result<Command, Failure> {
        let mut known: Vec<String> = GLOBAL.iter().map(|name| (*name).to_owned()).collect();
        let command = self.with_defaults(command, &mut known);
        match self.values.iter().find(|(variable, _)| !known.contains(variable)) {
            None => Ok(command),
            Some((_, (key, _))) => Err(Failure::configuration(format!(
                "{}: there is no setting `{key}`. Nothing was done. Its options are those that `outbox … --help` shows with a \
                 variable: `lease` in the table `[relay]` is OUTBOX_RELAY_LEASE",
                self.path.display()
            ))),
        }
    }

    fn with_defaults(&self, command: Command, known: &mut Vec<String>) -> Command {
        let command = command.mut_args(|argument| {
            let Some(variable) = variable_of(&argument) else { return argument };
            let value = self.get(&variable).map(str::to_owned);
            known.push(variable);
            match value {
                Some(value) => argument.default_value(value).required(false),
                None => argument,
            }
        });
        command.mut_subcommands(|command| self.with_defaults(command, known))
    }
}

fn variable_of(argument: &Arg) -> Option<String> {
    argument.get_env().and_then(|name| name.to_str()).map(str::to_owned)
}

/// The variable of a key: `relay.drain-timeout` is `OUTBOX_RELAY_DRAIN_TIMEOUT`.
fn variable(key: &str) -> String {
    format!("OUTBOX_{}", key.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// The values in a table and the tables in it, with their keys from the outermost table on.
fn leaves(table: Table) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::String(text) => found.push((key, text)),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
                found.push((key, value.to_string()));
            }
            Value::Table(inner) => {
                let inner = leaves(inner)?.into_iter();
                found.extend(inner.map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            Value::Array(_) | Value::Datetime(_) => {
                return Err(format!("`{key}` must be a text, a number, or true or false"));
            }
        }
    }
    Ok(found)
}

/// The text of a file that is not absurdly long, such as a device.
pub fn read_bounded(path: &Path) -> io::Result<String> {
    read_at_most(path, LARGEST)
}

/// The text of a file of at most so many bytes.
pub fn read_at_most(path: &Path, largest: u64) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(largest + 1).read_to_string(&mut text)?;
    if text.len() as u64 > largest {
        let what = format!("it has more than {} MiB", largest / (1024 * 1024));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<File, String> {
        File::parsed(PathBuf::from("outbox.toml"), text).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn a_key_is_known_by_its_variable() {
        let file = parsed(
            "database-url = 'sqlite:a'\n[relay]\npark-after = 7\n[kafka]\nsecurity.protocol = 'ssl'",
        )
        .unwrap();
        assert_eq!(file.get("OUTBOX_DATABASE_URL"), Some("sqlite:a"));
        assert_eq!(file.get("OUTBOX_RELAY_PARK_AFTER"), Some("7"));
        assert_eq!(file.kafka, [("security.protocol".to_owned(), "ssl".to_owned())]);
    }

    #[test]
    fn an_error_names_the_line_and_shows_nothing_of_it() {
        let error = parsed("schema = 'a'\npassword = 'hunter2").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        assert!(parsed("kafka = 1").unwrap_err().contains("must be a table"));
        assert!(parsed("brokers = ['a', 'b']").unwrap_err().contains("`brokers`"));
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        let file = parsed("brokres = 'a'").unwrap();
        let error = file.as_defaults_of(Command::new("outbox")).unwrap_err();
        assert!(format!("{error:?}").contains("`brokres`"), "{error:?}");
    }

    #[test]
    fn the_file_is_known_before_the_arguments_are_parsed() {
        let named =
            |words: &[&str]| named_in(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(named(&["outbox", "--config", "a", "status"]), Some(PathBuf::from("a")));
        assert_eq!(named(&["outbox", "status", "--config=b"]), Some(PathBuf::from("b")));
        assert_eq!(named(&["outbox", "status", "--", "--config=b"]), None);
    }
}
