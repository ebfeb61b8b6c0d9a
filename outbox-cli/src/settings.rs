//! What the options of all commands come to, and where each value is from.
//!
//! An option counts first, then a variable `OUTBOX_…` of ours, then the common one (`DATABASE_URL`,
//! those of libpq, `KAFKA_BROKERS`), then the file (`file.rs`), then the default. A variable of ours
//! with `_FILE` behind its name is the path of a file with the value: so orchestrators mount
//! secrets. An empty variable is as one that is not set.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use crate::args::{Global, LogFormat, Property, Secret};
use crate::failure::Failure;
use crate::file::{File, read_bounded};
use crate::output::{Color, Format};
use crate::values;

/// The variables of all settings that are here. In the file, they are the keys outside of tables.
pub const GLOBAL: [&str; 9] = [
    DATABASE_URL,
    SCHEMA,
    TABLE_PREFIX,
    BROKERS,
    TOPIC_PREFIX,
    OUTPUT,
    COLOR,
    STATEMENT_TIMEOUT,
    LOG_FORMAT,
];

const DATABASE_URL: &str = "OUTBOX_DATABASE_URL";
const SCHEMA: &str = "OUTBOX_SCHEMA";
const TABLE_PREFIX: &str = "OUTBOX_TABLE_PREFIX";
const BROKERS: &str = "OUTBOX_BROKERS";
const TOPIC_PREFIX: &str = "OUTBOX_TOPIC_PREFIX";
const OUTPUT: &str = "OUTBOX_OUTPUT";
const COLOR: &str = "OUTBOX_COLOR";
const STATEMENT_TIMEOUT: &str = "OUTBOX_STATEMENT_TIMEOUT";
const LOG_FORMAT: &str = "OUTBOX_LOG_FORMAT";

/// Variables of libpq that say where a database is.
const OF_LIBPQ: [&str; 3] = ["PGHOST", "PGHOSTADDR", "PGDATABASE"];

const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Option,
    /// A variable, by its name.
    Variable(String),
    File(PathBuf),
    Default,
}

/// A value, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    pub value: T,
    pub source: Source,
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    Url(Secret),
    /// As the variables of libpq say.
    Libpq,
}

/// The settings of all commands.
#[derive(Debug)]
pub struct Settings {
    /// `None`: nothing names one.
    pub database: Option<Setting<Database>>,
    /// `None`: the `search_path` decides.
    pub schema: Option<Setting<String>>,
    pub table_prefix: Setting<String>,
    /// `None`: nothing names one, unless a property does.
    pub brokers: Option<Setting<String>>,
    pub topic_prefix: Setting<String>,
    /// Properties of librdkafka that the file has.
    pub kafka_of_file: Vec<Setting<Property>>,
    /// The file with properties that an option names.
    pub kafka_config: Option<PathBuf>,
    /// Properties of librdkafka given as options. They count before all others.
    pub properties: Vec<Property>,
    pub output: Setting<Format>,
    pub color: Setting<Color>,
    pub statement_timeout: Setting<Duration>,
    pub log_format: Setting<LogFormat>,
    /// Where spans are sent. Only `relay run` has it, as `--otlp`.
    pub collector: Option<Secret>,
}

/// Where settings are looked for besides the options.
struct Sources<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    file: Option<&'a File>,
}

impl Settings {
    pub fn new(
        global: &Global,
        env: &dyn Fn(&str) -> Option<OsString>,
        file: Option<&File>,
    ) -> Result<Self, Failure> {
        let sources = Sources { env, file };
        let schema = sources.text(global.schema.as_deref(), SCHEMA, None)?;
        let table_prefix = sources.text(global.table_prefix.as_deref(), TABLE_PREFIX, None)?;
        let topic_prefix = sources.text(global.topic_prefix.as_deref(), TOPIC_PREFIX, None)?;
        Ok(Self {
            database: sources.database(global.database_url.as_ref())?,
            schema,
            table_prefix: table_prefix.unwrap_or_else(|| by_default("outbox_".to_owned())),
            brokers: sources.text(global.brokers.as_deref(), BROKERS, Some("KAFKA_BROKERS"))?,
            topic_prefix: topic_prefix.unwrap_or_else(|| by_default(String::new())),
            kafka_of_file: sources.kafka(),
            kafka_config: global.kafka_config.clone(),
            properties: global.properties.clone(),
            output: sources
                .parsed(global.output, OUTPUT, one_of)?
                .unwrap_or(by_default(Format::Table)),
            color: sources.parsed(global.color, COLOR, one_of)?.unwrap_or(by_default(Color::Auto)),
            statement_timeout: sources
                .parsed(global.statement_timeout, STATEMENT_TIMEOUT, values::positive_duration)?
                .unwrap_or(by_default(DEFAULT_STATEMENT_TIMEOUT)),
            log_format: sources
                .parsed(global.log_format, LOG_FORMAT, one_of)?
                .unwrap_or(by_default(LogFormat::Text)),
            collector: None,
        })
    }

    /// Name, value and source of each, without secrets.
    pub fn shown(&self) -> Vec<(String, String, Source)> {
        fn row<T>(
            name: &str,
            setting: &Setting<T>,
            shown: impl Fn(&T) -> String,
        ) -> (String, String, Source) {
            (name.to_owned(), shown(&setting.value), setting.source.clone())
        }
        let mut rows = Vec::new();
        rows.extend(
            self.database
                .as_ref()
                .map(|database| row("database-url", database, Database::to_string)),
        );
        rows.extend(self.schema.as_ref().map(|schema| row("schema", schema, String::clone)));
        rows.push(row("table-prefix", &self.table_prefix, String::clone));
        rows.extend(self.brokers.as_ref().map(|brokers| row("brokers", brokers, String::clone)));
        rows.push(row("topic-prefix", &self.topic_prefix, String::clone));
        let options = self.properties.iter().map(|property| (property, &Source::Option));
        let in_file = self.kafka_of_file.iter().map(|property| (&property.value, &property.source));
        for (property, source) in in_file.chain(options) {
            rows.push((format!("kafka.{}", property.name), "…".to_owned(), source.clone()));
        }
        rows.push(row("statement-timeout", &self.statement_timeout, |timeout| {
            humantime::format_duration(*timeout).to_string()
        }));
        rows
    }
}

impl Sources<'_> {
    /// A text, by its option, the name of its variable, and that of the common one.
    fn text(
        &self,
        option: Option<&str>,
        variable: &str,
        common: Option<&str>,
    ) -> Result<Option<Setting<String>>, Failure> {
        if let Some(value) = option {
            return Ok(Some(Setting { value: value.to_owned(), source: Source::Option }));
        }
        if let Some(found) = self.variable(variable)? {
            return Ok(Some(found));
        }
        if let Some(path) = self.variable(&format!("{variable}_FILE"))? {
            return Ok(Some(in_file(&path)?));
        }
        if let Some(found) = common.map(|common| self.variable(common)).transpose()?.flatten() {
            return Ok(Some(found));
        }
        Ok(self.in_the_file(variable))
    }

    fn in_the_file(&self, variable: &str) -> Option<Setting<String>> {
        let file = self.file?;
        let value = file.get(variable)?.to_owned();
        Some(Setting { value, source: Source::File(file.path.clone()) })
    }

    fn variable(&self, name: &str) -> Result<Option<Setting<String>>, Failure> {
        let Some(value) = (self.env)(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let source = Source::Variable(name.to_owned());
        let value = value.into_string().map_err(|_| {
            Failure::configuration(format!("the variable {name} is not UTF-8: nothing was done"))
        })?;
        Ok(Some(Setting { value, source }))
    }

    fn parsed<T>(
        &self,
        option: Option<T>,
        variable: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Setting<T>>, Failure> {
        if let Some(value) = option {
            return Ok(Some(Setting { value, source: Source::Option }));
        }
        let Some(Setting { value, source }) = self.text(None, variable, None)? else {
            return Ok(None);
        };
        match parse(&value) {
            Ok(value) => Ok(Some(Setting { value, source })),
            Err(error) => Err(Failure::configuration(format!(
                "`{value}` is no value for {variable} ({source}): {error}. Nothing was done"
            ))),
        }
    }

    fn database(&self, option: Option<&Secret>) -> Result<Option<Setting<Database>>, Failure> {
        let url = |setting: Setting<String>| Setting {
            value: Database::Url(Secret(setting.value)),
            source: setting.source,
        };
        let option = option.map(|secret| &*secret.0);
        let found = self.text(option, DATABASE_URL, Some("DATABASE_URL"))?;
        let from_file = |found: &Setting<String>| matches!(&found.source, Source::File(path) if self.is_ours(path));
        if found.as_ref().is_some_and(|found| !from_file(found)) {
            return Ok(found.map(url));
        }
        // They count before the file.
        for name in OF_LIBPQ {
            if self.variable(name)?.is_some() {
                let source = Source::Variable(name.to_owned());
                return Ok(Some(Setting { value: Database::Libpq, source }));
            }
        }
        Ok(found.map(url))
    }

    fn is_ours(&self, path: &Path) -> bool {
        self.file.is_some_and(|file| file.path == path)
    }

    fn kafka(&self) -> Vec<Setting<Property>> {
        let Some(file) = self.file else { return Vec::new() };
        let source = Source::File(file.path.clone());
        let properties = file.kafka.iter().cloned();
        properties
            .map(|(name, value)| Setting {
                value: Property { name, value },
                source: source.clone(),
            })
            .collect()
    }
}

/// The value in a file that a variable names.
fn in_file(path: &Setting<String>) -> Result<Setting<String>, Failure> {
    let (file, source) = (Path::new(&path.value), path.source.clone());
    match read_bounded(file) {
        Ok(text) => Ok(Setting { value: text.trim_end_matches(['\r', '\n']).to_owned(), source }),
        Err(error) => Err(Failure::configuration(format!(
            "cannot read {}, which is named by {source}: {error}. Nothing was done",
            file.display()
        ))),
    }
}

fn by_default<T>(value: T) -> Setting<T> {
    Setting { value, source: Source::Default }
}

fn one_of<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, true).map_err(|_| {
        let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option => f.write_str("option"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Without passwords.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Libpq => f.write_str("as the variables of libpq say"),
            Self::Url(Secret(url)) => f.write_str(&masked(url)),
        }
    }
}

/// A URL without its password, wherever that is.
fn masked(url: &str) -> String {
    let (base, query) =
        url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let mut shown = match base.split_once("://") {
        None => base.to_owned(),
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            None => base.to_owned(),
            Some((user, host)) => {
                let user =
                    user.split_once(':').map_or(user.to_owned(), |(user, _)| format!("{user}:…"));
                format!("{scheme}://{user}@{host}")
            }
        },
    };
    for (i, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if i == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if name.contains("password") => {
                shown.push_str(name);
                shown.push_str("=…");
            }
            _ => shown.push_str(pair),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::parsed_words;

    /// The settings by these options and variables.
    fn settings(
        options: &[&str],
        variables: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<Settings, String> {
        let words = [options, &["status"]].concat();
        let cli = parsed_words(&words).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = file.map(|text| {
            let path = directory.path().join("outbox.toml");
            std::fs::write(&path, text).unwrap();
            File::find(Some(path), &|_| None).unwrap().unwrap()
        });
        let env = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        Settings::new(&cli.global, &env, file.as_ref()).map_err(|failure| format!("{failure:?}"))
    }

    fn database(options: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> String {
        settings(options, variables, file).unwrap().database.unwrap().value.to_string()
    }

    #[test]
    fn an_option_counts_before_variables_and_those_before_the_file() {
        let file = Some("database-url = 'sqlite:file'\nbrokers = 'file:1'\n");
        let libpq = ("PGHOST", "db");
        let common = ("DATABASE_URL", "sqlite:common");
        let ours = ("OUTBOX_DATABASE_URL", "sqlite:ours");
        let libpq_is_used = "as the variables of libpq say";
        assert_eq!(database(&[], &[], file), "sqlite:file");
        assert_eq!(database(&[], &[libpq], file), libpq_is_used);
        assert_eq!(database(&[], &[libpq, common], file), "sqlite:common");
        assert_eq!(database(&[], &[libpq, common, ours], file), "sqlite:ours");
        assert_eq!(
            database(&["-D", "sqlite:option"], &[libpq, common, ours], file),
            "sqlite:option"
        );
        let brokers = |variables: &[(&str, &str)]| {
            let brokers = settings(&[], variables, file).unwrap().brokers.unwrap();
            (brokers.value, brokers.source.to_string())
        };
        assert_eq!(brokers(&[]).0, "file:1");
        let (common, ours) = (("KAFKA_BROKERS", "common:1"), ("OUTBOX_BROKERS", "ours:1"));
        assert_eq!(
            brokers(&[common]),
            ("common:1".to_owned(), "variable KAFKA_BROKERS".to_owned())
        );
        assert_eq!(brokers(&[common, ours]).0, "ours:1");
        assert_eq!(brokers(&[common, ("OUTBOX_BROKERS", "")]).0, "common:1", "empty is not set");
    }

    #[test]
    fn without_anything_there_is_no_database_and_the_rest_has_defaults() {
        let settings = settings(&[], &[("PGUSER", "me")], None).unwrap();
        assert_eq!((settings.database, settings.brokers), (None, None));
        assert_eq!(settings.table_prefix, by_default("outbox_".to_owned()));
        assert_eq!(settings.statement_timeout.value, Duration::from_secs(10));
    }

    #[test]
    fn a_secret_may_be_in_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        std::fs::write(&path, "postgres://me:hunter2@db/orders\n").unwrap();
        let variable = ("OUTBOX_DATABASE_URL_FILE", path.to_str().unwrap());
        assert_eq!(database(&[], &[variable], None), "postgres://me:…@db/orders");
        let missing = settings(&[], &[("OUTBOX_SCHEMA_FILE", "/no/such")], None).unwrap_err();
        assert!(missing.contains("OUTBOX_SCHEMA_FILE"), "{missing}");
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_with_where_it_is_from() {
        let refused = settings(&[], &[("OUTBOX_OUTPUT", "xml")], None).unwrap_err();
        assert!(
            refused.contains("variable OUTBOX_OUTPUT") && refused.contains("yaml"),
            "{refused}"
        );
        let refused = settings(&[], &[], Some("statement-timeout = '10'")).unwrap_err();
        assert!(refused.contains("outbox.toml") && refused.contains("10s"), "{refused}");
    }

    #[test]
    fn no_password_is_shown_wherever_a_url_has_it() {
        for (url, shown) in [
            ("postgres://me:a@b:c@db/orders", "postgres://me:…@db/orders"),
            (
                "postgres://db/orders?sslmode=require&password=a",
                "postgres://db/orders?sslmode=require&password=…",
            ),
            ("postgres://me@db/orders", "postgres://me@db/orders"),
            ("sqlite:orders.db", "sqlite:orders.db"),
        ] {
            assert_eq!(masked(url), shown);
        }
        let all = settings(
            &["-D", "postgres://me:hunter2@db/orders", "-X", "sasl.password=hunter2"],
            &[],
            Some("[kafka]\nssl.key.password = 'hunter2'"),
        );
        let all = all.unwrap();
        assert!(!format!("{all:?} {:?}", all.shown()).contains("hunter2"), "{all:?}");
    }
}
