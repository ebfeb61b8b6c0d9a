//! What the options of all commands come to, and where each value is from.
//!
//! An option counts first, then a variable `OUTBOX_…` of ours, then the common one (`DATABASE_URL`,
//! those of libpq, `KAFKA_BROKERS`), then the file (`file.rs`), then the default. A variable of ours
//! with `_FILE` behind its name is the path of a file with the value: so orchestrators mount
//! secrets. An empty variable is as one that is not set.

pub mod names;
mod sources;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use names::{
    BROKERS, COLOR, DATABASE_URL, LOG_FORMAT, OUTPUT, SCHEMA, STATEMENT_TIMEOUT, TABLE_PREFIX,
    TOPIC_PREFIX,
};
use sources::{Sources, one_of};
use value::by_default;
pub use value::{Database, Setting, Source};

use crate::args::{Global, LogFormat, Property, Secret};
use crate::failure::Failure;
use crate::file::File;
use crate::output::{Color, Format};
use crate::values;

const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// A secret of one command, in a variable or in the file that the same variable with `_FILE` names.
pub fn secret(variable: &str) -> Result<Option<String>, Failure> {
    let sources = Sources { env: &|name| std::env::var_os(name), file: None };
    Ok(sources.text(None, variable, None)?.map(|found| found.value))
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
            database: sources.database(global.database_url.as_ref(), DATABASE_URL)?,
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
    fn no_setting_shows_a_secret() {
        let all = settings(
            &["-D", "postgres://me:hunter2@db/orders", "-X", "sasl.password=hunter2"],
            &[],
            Some("[kafka]\nssl.key.password = 'hunter2'"),
        );
        let all = all.unwrap();
        assert!(!format!("{all:?} {:?}", all.shown()).contains("hunter2"), "{all:?}");
    }
}
