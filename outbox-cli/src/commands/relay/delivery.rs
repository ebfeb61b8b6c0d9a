//! How a relay delivers: at least once, or exactly once.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum};
use outbox::observe::Health;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{ExactlyOnce, ExactlyOnceRelay, OutboxError, Relay, RelayBuilder};
use sqlx::{MySql, Postgres, Sqlite};

use crate::failure::Failure;
use crate::signals::Stop;
use crate::values;

/// The longest time that transactions can be apart.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// How often an event may arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    #[default]
    AtLeastOnce,
    ExactlyOnce,
}

/// To be flattened into the arguments of `relay run`.
#[derive(Debug, Args)]
pub struct Options {
    /// How often an event may arrive: at-least-once or exactly-once [default: at-least-once]
    ///
    /// Exactly once, it is in one committed transaction of Kafka: consumers need
    /// isolation.level=read_committed. All relays of an outbox deliver in the same way. Those that
    /// deliver at least once are stopped before the first one that delivers exactly once starts; the
    /// way back is `outbox relay hand-back`.
    #[arg(
        long,
        env = "OUTBOX_RELAY_DELIVERY",
        hide_env_values = true,
        value_enum,
        value_name = "HOW",
        hide_possible_values = true
    )]
    delivery: Option<Delivery>,
    /// Number of groups that the lanes are in, 1, 2, 4, 8 or 16, and so the most relays that
    /// publish; only for exactly-once, and the same for all relays [default: 2]
    #[arg(
        long,
        env = "OUTBOX_RELAY_GROUPS",
        hide_env_values = true,
        value_name = "NUMBER",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["1", "2", "4", "8", "16"]).try_map(|number| number.parse::<u16>())
    )]
    groups: Option<u16>,
    /// Least time from the begin of a transaction of a group to that of its next one, at most 1s;
    /// only for exactly-once [default: 10ms]
    #[arg(long, env = "OUTBOX_RELAY_COMMIT_INTERVAL", hide_env_values = true, value_name = "DURATION", value_parser = commit_interval)]
    commit_interval: Option<Duration>,
}

fn commit_interval(text: &str) -> Result<Duration, String> {
    let interval = values::duration(text)?;
    if interval > LONGEST_INTERVAL {
        return Err("it must be at most 1s".to_owned());
    }
    Ok(interval)
}

impl Options {
    /// What of them clap cannot check: a value from the file is a default to it.
    pub fn check(&self) -> Result<(), String> {
        let only_for_exactly_once = [
            ("--groups", self.groups.is_some()),
            ("--commit-interval", self.commit_interval.is_some()),
        ];
        let given = only_for_exactly_once.into_iter().find(|(_, is_given)| *is_given);
        match (self.delivery.unwrap_or_default(), given) {
            (Delivery::AtLeastOnce, Some((option, _))) => Err(format!(
                "`{option}` is only for delivery exactly once, and this relay would deliver at least once: it did not start. \
                 Add `--delivery exactly-once`, or leave `{option}` out (also of the variables and the file)"
            )),
            _ => Ok(()),
        }
    }

    fn exactly_once(&self) -> Option<ExactlyOnce> {
        if self.delivery != Some(Delivery::ExactlyOnce) {
            return None;
        }
        let mut options = ExactlyOnce::new();
        if let Some(groups) = self.groups {
            options = options.groups(groups);
        }
        if let Some(interval) = self.commit_interval {
            options = options.commit_interval(interval);
        }
        Some(options)
    }
}

/// A database in which a relay of this command works.
pub trait Delivers: outbox::OutboxDatabase {
    /// The relay, as the options say.
    fn relay(
        builder: RelayBuilder<Self, KafkaPublisher>,
        options: &Options,
    ) -> Result<AnyRelay, Failure>;

    /// Changes the delivery back to at least once.
    fn hand_back(
        builder: RelayBuilder<Self, KafkaPublisher>,
        options: ExactlyOnce,
    ) -> impl Future<Output = Result<(), OutboxError>>;
}

/// A relay, however it delivers.
pub enum AnyRelay {
    Postgres(Relay<Postgres, KafkaPublisher>),
    PostgresExactlyOnce(ExactlyOnceRelay<Postgres, KafkaPublisher>),
    MySql(Relay<MySql, KafkaPublisher>),
    Sqlite(Relay<Sqlite, KafkaPublisher>),
    SqliteExactlyOnce(ExactlyOnceRelay<Sqlite, KafkaPublisher>),
}

/// What a database delivers is known when it is named.
macro_rules! delivers {
    ($($DB:ident as $AtLeastOnce:ident or $ExactlyOnce:ident;)*) => {$(
        impl Delivers for $DB {
            fn relay(
                builder: RelayBuilder<Self, KafkaPublisher>,
                options: &Options,
            ) -> Result<AnyRelay, Failure> {
                Ok(match options.exactly_once() {
                    None => AnyRelay::$AtLeastOnce(builder.build()?),
                    Some(options) => AnyRelay::$ExactlyOnce(builder.build_exactly_once(options)?),
                })
            }

            async fn hand_back(
                builder: RelayBuilder<Self, KafkaPublisher>,
                options: ExactlyOnce,
            ) -> Result<(), OutboxError> {
                builder.build_exactly_once(options)?.hand_back().await
            }
        }
    )*};
}

delivers! {
    Postgres as Postgres or PostgresExactlyOnce;
    Sqlite as Sqlite or SqliteExactlyOnce;
}

impl Delivers for MySql {
    fn relay(
        builder: RelayBuilder<Self, KafkaPublisher>,
        options: &Options,
    ) -> Result<AnyRelay, Failure> {
        match options.exactly_once() {
            None => Ok(AnyRelay::MySql(builder.build()?)),
            Some(_) => Err(not_exactly_once()),
        }
    }

    /// Never asked for: its status says that it is delivered at least once.
    async fn hand_back(
        _: RelayBuilder<Self, KafkaPublisher>,
        _: ExactlyOnce,
    ) -> Result<(), OutboxError> {
        Ok(())
    }
}

fn not_exactly_once() -> Failure {
    Failure::configuration(
        "MySQL and MariaDB cannot deliver exactly once: a relay deletes what it has delivered, so the database keeps no position \
         with which the one on the brokers could be compared. The relay did not start, and all events are in the outbox. Leave \
         `--delivery` out: consumers that are idempotent, as those of outbox are, need at least once only",
    )
}

/// Does the same with a relay, however it delivers.
macro_rules! with_relay {
    ($any:expr, $relay:ident => $body:expr) => {
        match $any {
            AnyRelay::Postgres($relay) => $body,
            AnyRelay::PostgresExactlyOnce($relay) => $body,
            AnyRelay::MySql($relay) => $body,
            AnyRelay::Sqlite($relay) => $body,
            AnyRelay::SqliteExactlyOnce($relay) => $body,
        }
    };
}

impl AnyRelay {
    pub fn health(&self) -> Health {
        with_relay!(self, relay => relay.health())
    }

    /// Publishes what is committed by now.
    pub async fn drain(self) -> Result<u64, OutboxError> {
        with_relay!(self, relay => relay.drain().await)
    }

    pub async fn run(self, stop: Stop) -> Result<(), OutboxError> {
        with_relay!(self, relay => relay.run(async { stop.asked().await }).await)
    }
}

#[cfg(test)]
mod tests {
    use crate::args::parsed_words;

    fn refusal(words: &[&str]) -> String {
        parsed_words(words).unwrap_err().to_string()
    }

    #[test]
    fn what_is_only_for_exactly_once_is_refused_without_it() {
        let run = ["relay", "run"];
        let with = |words: &[&'static str]| [&run[..], words].concat();
        for option in [["--groups", "4"], ["--commit-interval", "5ms"]] {
            let said = refusal(&with(&option));
            assert!(said.contains(option[0]) && said.contains("exactly-once"), "{said}");
            let explicit = [&["--delivery", "at-least-once"][..], &option].concat();
            assert!(refusal(&with(&explicit)).contains(option[0]));
            let once = [&["--delivery", "exactly-once"][..], &option].concat();
            parsed_words(&with(&once)).unwrap();
        }
    }

    #[test]
    fn groups_and_intervals_that_cannot_be_are_refused() {
        for groups in ["0", "3", "32", "-1", "two"] {
            let words = ["relay", "run", "--delivery", "exactly-once", "--groups", groups];
            refusal(&words);
        }
        let words = ["relay", "run", "--delivery", "exactly-once", "--commit-interval", "2s"];
        assert!(refusal(&words).contains("at most 1s"));
    }
}
