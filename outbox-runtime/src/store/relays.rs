//! The relays of an outbox, as an operator finds their processes.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::admin::at;
use super::row::row;
use crate::check::from_unix_micros;
use crate::record::Lane;

/// A relay that gives signs of life, or that has died and is not forgotten yet: another relay
/// forgets it a minute later.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RelayStatus {
    /// Its id, drawn when the relay was built.
    pub id: Uuid,
    /// Name of its host. `None`: the system did not say.
    pub host: Option<String>,
    /// Id of its process, on that host or in its container.
    pub pid: Option<u32>,
    /// Version of `outbox` that it was built with.
    pub version: Option<String>,
    /// Time at which it first claimed lanes, by the clock of the database (SQLite: of its host).
    pub started: SystemTime,
    /// Its last sign of life, by the same clock. `None`: it has given none.
    pub last_sign: Option<SystemTime>,
    /// Time without a sign after which it counts as dead.
    pub lease: Duration,
    /// Whether its lease lasts.
    pub is_alive: bool,
    /// Whether it only publishes what there is, and ends
    /// ([`Relay::drain`](crate::Relay::drain)).
    pub is_drain: bool,
    /// The lanes that it holds, in order.
    pub lanes: Vec<Lane>,
}

row! {
    /// A relay, as stores return it.
    pub(crate) struct RelayRow {
        owner: Uuid,
        host: Option<String>,
        pid: Option<i64>,
        version: Option<String>,
        started_micros: i64,
        alive_until_micros: Option<i64>,
        lease_millis: i64,
        is_alive: bool,
        shares: bool,
    }
}

impl RelayStatus {
    pub(super) fn new(row: RelayRow, lanes: Vec<Lane>) -> Self {
        let lease = Duration::from_millis(row.lease_millis.max(0).unsigned_abs());
        let alive_until = row.alive_until_micros.and_then(from_unix_micros);
        Self {
            id: row.owner,
            host: row.host,
            pid: row.pid.and_then(|pid| u32::try_from(pid).ok()),
            version: row.version,
            started: at(row.started_micros),
            last_sign: alive_until.and_then(|until| until.checked_sub(lease)),
            lease,
            is_alive: row.is_alive,
            is_drain: !row.shares,
            lanes,
        }
    }
}

/// What a relay says of its process.
#[derive(Debug, Clone)]
pub(crate) struct RelayProcess {
    pub(crate) host: Option<String>,
    pub(crate) pid: i64,
    pub(crate) version: &'static str,
}

impl RelayProcess {
    pub(crate) fn this() -> Self {
        Self {
            host: host(),
            pid: i64::from(std::process::id()),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The name of this host: the kernel's on Linux, where it is also the name of a container or pod,
/// and elsewhere that of the environment.
fn host() -> Option<String> {
    /// The longest that a name is kept: longer ones are no names of hosts.
    const MOST_CHARACTERS: usize = 255;
    let of_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let names = of_kernel.into_iter().chain(
        ["HOSTNAME", "COMPUTERNAME"]
            .into_iter()
            .filter_map(|variable| std::env::var(variable).ok()),
    );
    names
        .map(|name| name.trim().chars().filter(|c| *c != '\0').take(MOST_CHARACTERS).collect())
        .find(|name: &String| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_last_sign_is_one_lease_before_it_ends() {
        let owner = Uuid::from_u128(1);
        let row = RelayRow {
            owner,
            host: None,
            pid: Some(-1),
            version: None,
            started_micros: 1_000_000,
            alive_until_micros: Some(9_000_000),
            lease_millis: 5_000,
            is_alive: true,
            shares: false,
        };
        let relay = RelayStatus::new(row, vec![Lane::from_number(3)]);
        assert_eq!(relay.last_sign, Some(at(4_000_000)));
        assert_eq!((relay.pid, relay.is_drain), (None, true));
    }

    #[test]
    fn a_host_has_a_name_of_one_line() {
        let host = host().expect("the machine that runs tests has a name");
        assert!(!host.contains(char::is_whitespace) && host.len() <= 1_020, "{host}");
    }
}
