//! Real servers for the tests, and the commands of `cargo xtask`.
//!
//! The tests of this workspace run against a real Postgres, MariaDB, MySQL and Kafka, and some of
//! them kill and restart those servers. This crate starts disposable ones without a container
//! engine: Maven fetches the programs once into `target/servers/dist`, and [`servers::Postgres`],
//! [`servers::MySql`] and [`servers::Kafka`] run them on free ports of 127.0.0.1. What the machine
//! lacks for that, Java and Maven included, is fetched from Debian's packages, without root, and
//! so is MariaDB 10.11.
//!
//! No server outlives the process which started it, however that process ends: dropping the value
//! stops the server, and a watchdog process kills it when the starting process dies without
//! dropping anything (SIGKILL, `std::process::exit`, a value in a `static`).
//!
//! ```no_run
//! use xtask::ScratchDir;
//! use xtask::servers::{Postgres, PgOptions, PgVersion};
//!
//! # fn main() -> Result<(), xtask::Error> {
//! let dir = ScratchDir::new("crash")?;
//! let mut postgres = Postgres::start(PgVersion::V15, dir.path(), PgOptions::default())?;
//! // … connect to postgres.url() …
//! postgres.kill();
//! postgres.restart()?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod certificates;
mod clients;
pub mod commands;
mod debian;
mod disk;
mod error;
mod fetch;
mod java;
mod net;
mod openssl;
mod paths;
mod process;
mod procfs;
mod readers;
pub mod servers;
mod tools;
mod writers;

pub use certificates::{Certificates, Identity};
pub use error::Error;
pub use paths::ScratchDir;
pub use readers::Reader;
pub use tools::{chromium, promtool};
pub use writers::{Mode, Sdk, SdkEvent};

/// Features that the tests are built with: all. `openssl::environment` saves building OpenSSL.
pub const TESTED_FEATURES: &str = "outbox/postgres,outbox/mysql,outbox/sqlite,outbox/tls,outbox/kafka,outbox/kafka-ssl-vendored,\
                               outbox/zstd,outbox/metrics,outbox/schema,\
                               outbox-registry/avro,outbox-registry/protobuf,outbox-registry/json-schema,\
                               outbox-registry/tls";
