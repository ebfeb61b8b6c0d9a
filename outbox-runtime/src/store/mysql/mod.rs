//! MySQL and MariaDB. A relay deletes what it has delivered: a row that is still there is not
//! delivered, whatever its number, and so nothing is lost. (A number is drawn long before its
//! commit, and neither locks nor privileges say reliably whether a gap will still be filled.)

mod admin;
mod clock;
mod connection;
mod counter;
mod diagnosis;
mod event_row;
mod events;
pub(super) mod fault;
mod flush;
mod inbox;
mod inspect;
mod lanes;
mod lists;
mod parked;
mod pause;
mod reclaim;
mod replay;
mod schema;
mod server;
mod status;
mod tail;
mod wakeup;
mod write;

use clock::NOW;
use sqlx::SqlStr;

use super::names::{Names, sql};

/// A statement with the names of the tables. `{now}` becomes the time by the database's clock, in
/// microseconds since 1970.
fn statement(names: &Names, template: &str) -> SqlStr {
    sql(names.fill(&template.replace("{now}", NOW)))
}

#[cfg(test)]
fn test_url() -> String {
    std::env::var("MYSQL_URL")
        .expect("MYSQL_URL is not set: run `cargo xtask test`, which starts a MariaDB")
}
