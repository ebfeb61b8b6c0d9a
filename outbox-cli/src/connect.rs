//! From settings to an outbox and to Kafka.

use std::time::Duration;

use outbox::kafka::KafkaConfig;
use outbox::{Outbox, OutboxDatabase, OutboxError};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, MySql, Pool, Postgres, Sqlite};
use tokio::time::timeout;
use tracing::log::LevelFilter;

use crate::args::Property;
use crate::commands::Dialect;
use crate::failure::Failure;
use crate::settings::{Database, Settings, Source};
use crate::spans;

/// Most connections of a command: one that works, and one for what it asks meanwhile.
const CONNECTIONS: u32 = 2;

/// An outbox in one of the databases. `with_outbox!` runs code on either.
#[derive(Debug, Clone)]
pub enum AnyOutbox {
    Postgres(Outbox<Postgres>),
    MySql(Outbox<MySql>),
    Sqlite(Outbox<Sqlite>),
}

/// Runs the same code on an outbox in whichever database it is:
///
/// ```ignore
/// let status = with_outbox!(context.outbox().await?, outbox => outbox.status().await?);
/// ```
macro_rules! with_outbox {
    ($any:expr, $outbox:ident => $body:expr) => {
        match $any {
            $crate::connect::AnyOutbox::Postgres($outbox) => $body,
            $crate::connect::AnyOutbox::MySql($outbox) => $body,
            $crate::connect::AnyOutbox::Sqlite($outbox) => $body,
        }
    };
}
pub(crate) use with_outbox;

/// The outbox. A database that does not answer, or refuses, is found here.
pub async fn outbox(settings: &Settings) -> Result<AnyOutbox, Failure> {
    let outbox = unconnected(settings, CONNECTIONS)?;
    let within = settings.statement_timeout.value;
    let shown = shown_database(settings);
    match &outbox {
        AnyOutbox::Postgres(outbox) => answers(outbox.pool(), within, &shown).await?,
        AnyOutbox::MySql(outbox) => answers(outbox.pool(), within, &shown).await?,
        AnyOutbox::Sqlite(outbox) => answers(outbox.pool(), within, &shown).await?,
    }
    Ok(outbox)
}

/// The outbox, over a pool that connects when it is first used.
pub fn unconnected(settings: &Settings, connections: u32) -> Result<AnyOutbox, Failure> {
    let Some(database) = &settings.database else {
        return Err(Failure::configuration(
            "no database was named: give its URL by `--database-url`, by the variable OUTBOX_DATABASE_URL or DATABASE_URL, or \
             as `database-url` in outbox.toml. Nothing was done",
        ));
    };
    match &database.value {
        Database::Libpq => postgres(PgConnectOptions::new(), settings, connections),
        Database::Url(url) if is_postgres(&url.0) => {
            let options = url.0.parse().map_err(|error| not_a_url(settings, error))?;
            postgres(options, settings, connections)
        }
        Database::Url(url) if is_mysql(&url.0) => {
            let options = url.0.parse().map_err(|error| not_a_url(settings, error))?;
            mysql(options, settings, connections)
        }
        Database::Url(url) if url.0.starts_with("sqlite:") => {
            let options = url.0.parse().map_err(|error| not_a_url(settings, error))?;
            sqlite(options, settings, connections)
        }
        Database::Url(_) => Err(Failure::configuration(format!(
            "the URL of the database ({}) begins neither with postgres:// nor with mysql:// nor with sqlite:. Nothing was done",
            database.source
        ))),
    }
}

/// An outbox that is never connected: for what needs the names of the tables only.
pub fn offline(settings: &Settings, dialect: Dialect) -> Result<AnyOutbox, Failure> {
    match dialect {
        Dialect::Postgres => postgres(PgConnectOptions::new_without_pgpass(), settings, 1),
        Dialect::Mysql => mysql(MySqlConnectOptions::new(), settings, 1),
        Dialect::Sqlite => sqlite(SqliteConnectOptions::new(), settings, 1),
    }
}

fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

/// As sqlx reads them: a MariaDB speaks the same protocol.
fn is_mysql(url: &str) -> bool {
    ["mysql://", "mariadb://"].iter().any(|scheme| url.starts_with(scheme))
}

/// The error of sqlx may show the URL, and the password in it.
fn not_a_url(settings: &Settings, _: sqlx::Error) -> Failure {
    let source = settings.database.as_ref().map(|database| database.source.to_string());
    Failure::configuration(format!(
        "the URL of the database ({}) cannot be read: write postgres://USER@HOST:PORT/DATABASE, mysql://USER@HOST:PORT/DATABASE or sqlite:PATH, with special \
         characters percent-encoded. It is not shown, for it may have a password. Nothing was done",
        source.unwrap_or_default()
    ))
}

fn postgres(
    options: PgConnectOptions,
    settings: &Settings,
    connections: u32,
) -> Result<AnyOutbox, Failure> {
    let options = options
        .application_name("outbox")
        // The library logs what matters of it.
        .log_slow_statements(LevelFilter::Off, Duration::ZERO);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.statement_timeout.value)
        .connect_lazy_with(options);
    Ok(AnyOutbox::Postgres(built(pool, settings)?))
}

fn mysql(
    options: MySqlConnectOptions,
    settings: &Settings,
    connections: u32,
) -> Result<AnyOutbox, Failure> {
    let options = options.log_slow_statements(LevelFilter::Off, Duration::ZERO);
    let pool = MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.statement_timeout.value)
        .connect_lazy_with(options);
    Ok(AnyOutbox::MySql(built(pool, settings)?))
}

fn sqlite(
    options: SqliteConnectOptions,
    settings: &Settings,
    connections: u32,
) -> Result<AnyOutbox, Failure> {
    let options = options
        .busy_timeout(settings.statement_timeout.value)
        .log_slow_statements(LevelFilter::Off, Duration::ZERO);
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.statement_timeout.value)
        .connect_lazy_with(options);
    Ok(AnyOutbox::Sqlite(built(pool, settings)?))
}

fn built<DB: OutboxDatabase>(pool: Pool<DB>, settings: &Settings) -> Result<Outbox<DB>, Failure> {
    let mut builder = Outbox::builder(pool).table_prefix(&settings.table_prefix.value);
    if let Some(schema) = &settings.schema {
        builder = builder.schema(&schema.value);
    }
    Ok(spans::propagating(builder, settings).build()?)
}

/// What the database is called where people see it: without its password.
pub fn shown_database(settings: &Settings) -> String {
    settings.database.as_ref().map_or_else(String::new, |database| database.value.to_string())
}

/// Whether the database takes a connection, and if not, why. `shown`: what it is called in the
/// failure.
pub async fn answers<DB: OutboxDatabase>(
    pool: &Pool<DB>,
    within: Duration,
    shown: &str,
) -> Result<(), Failure> {
    // Not by the pool: that one tries again until its time is up, and then does not say why.
    let error = match timeout(within, pool.connect_options().connect()).await {
        Ok(Ok(connection)) => {
            // It was only to see whether there is one.
            let _ = connection.close().await;
            return Ok(());
        }
        Ok(Err(error)) => error,
        Err(_) => sqlx::Error::PoolTimedOut,
    };
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return Err(Failure::unreachable(format!(
            "the database ({shown}) did not answer within {}. Nothing was done. Is it up, and is the address right?",
            humantime::format_duration(within)
        )));
    }
    let words = error.to_string();
    // A server that answers and refuses will refuse again.
    Err(if OutboxError::from(error).is_unreachable() {
        Failure::unreachable(format!(
            "the database ({shown}) does not answer: {words}. Nothing was done"
        ))
    } else {
        let remedy = if shown.starts_with("sqlite:") {
            "Correct the path; a file that is not there is created with `?mode=rwc` behind it"
        } else {
            "Correct the URL, the user or the password"
        };
        Failure::configuration(format!(
            "the database ({shown}) cannot be used: {words}. Nothing was done. {remedy}"
        ))
    })
}

/// How to reach Kafka. That no brokers are named is found where a client is built.
pub fn kafka(settings: &Settings) -> Result<KafkaConfig, Failure> {
    let brokers = settings.brokers.as_ref().map_or("", |brokers| &*brokers.value);
    let in_file = settings.kafka_of_file.iter().map(|property| &property.value);
    let in_file = in_file.map(|property| (&*property.name, &*property.value));
    let mut kafka = KafkaConfig::new(brokers).properties(in_file).with_env()?;
    if let Some(path) = &settings.kafka_config {
        kafka = kafka.properties_file(path)?;
    }
    for Property { name, value } in &settings.properties {
        kafka = kafka.property(name, value);
    }
    // Each of the above may name brokers as well.
    if settings.brokers.as_ref().is_some_and(|brokers| brokers.source == Source::Option) {
        kafka = kafka.property("bootstrap.servers", brokers);
    }
    Ok(kafka)
}
