//! The server and its clock.

use std::time::{Duration, SystemTime};

use outbox::admin::{Connections, Diagnosis, OpenTransaction, Unfit};

use super::finding::{Area, Finding};
use crate::times;

/// Part of the connections, and of the queue of `NOTIFY`, that may be in use.
const FULL: f64 = 0.8;
/// Age of a transaction that holds back reclaiming.
const LONG: Duration = Duration::from_secs(300);
/// Difference of clocks that the ages shown here may be wrong by.
const SKEW: Duration = Duration::from_secs(2);
/// Bytes of a statement that a server must accept, with room for an event above the usual limit.
const LONGEST_INSERT: u64 = 2 << 20;
const AREA: Area = Area::Db;

/// What the facts on the server mean.
pub fn findings(diagnosis: &Diagnosis) -> Vec<Finding> {
    let user = diagnosis.user.as_deref().map(|user| format!(", as user {user}"));
    let mut findings = vec![Finding::ok(
        AREA,
        "server",
        format!("{}{}", diagnosis.server, user.unwrap_or_default()),
    )];
    if let Some(Unfit { why, fix, .. }) = &diagnosis.unfit {
        let found = format!("no outbox can be on it, and no relay starts: {why}");
        findings.push(Finding::fail(AREA, "fit", found, fix.clone()));
    }
    findings.extend([writable(diagnosis), durable(diagnosis)]);
    if diagnosis.is_pooled {
        findings.push(Finding::warn(
            AREA,
            "pooler",
            "a transaction pooler is between this command and Postgres. A relay stops there, for it needs a session of its own. \
             Services and consumers may use it, and so do the other commands",
            "give relays the address of Postgres itself, or of a pool with pool_mode=session. The guide's page `production` has the \
             settings of services",
        ));
    }
    findings.extend(diagnosis.connections.map(connections));
    findings.extend(diagnosis.notify_queue.map(notify_queue));
    findings.extend(diagnosis.longest_statement.map(longest_statement));
    findings.extend(diagnosis.snapshot_isolation.map(snapshot_isolation));
    if diagnosis.sees_transactions {
        findings.push(longest(diagnosis.longest_transaction.as_ref()));
    } else if diagnosis.connections.is_some() {
        findings.push(Finding::ok(
            AREA,
            "transactions",
            "not known, for this user may not see those of others (PROCESS)",
        ));
    }
    findings
}

fn writable(diagnosis: &Diagnosis) -> Finding {
    if diagnosis.is_read_only {
        return Finding::fail(
            AREA,
            "writable",
            "the server refuses to write: it is a standby, or a setting is on (default_transaction_read_only, read_only). \
             Services cannot emit",
            "give the address of the primary (Postgres: for instance by several hosts and target_session_attrs=read-write)",
        );
    }
    Finding::ok(AREA, "writable", "it is the primary, and takes writes")
}

fn durable(diagnosis: &Diagnosis) -> Finding {
    if diagnosis.commits_reach_the_disk {
        return Finding::ok(AREA, "durable", "commits reach the disk before they are acknowledged");
    }
    Finding::warn(
        AREA,
        "durable",
        "commits do not wait for the disk: events that were committed may be lost if the machine crashes",
        "set fsync = on (Postgres), innodb_flush_log_at_trx_commit = 1 and sync_binlog = 1 (MySQL), or synchronous = FULL (SQLite)",
    )
}

fn connections(Connections { open, most, .. }: Connections) -> Finding {
    let found = format!("{open} of {most} connections are open");
    if open as f64 >= most as f64 * FULL {
        return Finding::warn(
            AREA,
            "connections",
            format!("{found}: the next relay or service may get none"),
            "raise max_connections, or use smaller pools",
        );
    }
    Finding::ok(AREA, "connections", found)
}

fn notify_queue(full: f64) -> Finding {
    let found = format!("the queue of NOTIFY is {:.0} % full", full * 100.0);
    if full >= FULL {
        return Finding::warn(
            AREA,
            "notify",
            format!("{found}: when it is full, commits that notify fail"),
            "find the session that listens and has a transaction open, and end it",
        );
    }
    Finding::ok(AREA, "notify", found)
}

/// An insert of events has up to 512 KiB of them, or a larger event alone.
fn longest_statement(bytes: u64) -> Finding {
    let found = format!("statements may have {} MiB (max_allowed_packet)", bytes >> 20);
    if bytes >= LONGEST_INSERT {
        return Finding::ok(AREA, "packet", found);
    }
    Finding::warn(
        AREA,
        "packet",
        format!(
            "{found}: a transaction with large events loses its connection, and is rolled back"
        ),
        "set max_allowed_packet to 16 MiB or more, and to twice the largest event",
    )
}

fn snapshot_isolation(is_on: bool) -> Finding {
    let found = if is_on {
        "innodb_snapshot_isolation is on: transactions at REPEATABLE READ may be refused as conflicts (1020), which `retry` \
         tries again"
    } else {
        "innodb_snapshot_isolation is off: no transaction is refused because of an older snapshot"
    };
    Finding::ok(AREA, "isolation", found)
}

fn longest(longest: Option<&OpenTransaction>) -> Finding {
    let Some(OpenTransaction { pid, application, state, age, ended_by, .. }) = longest else {
        return Finding::ok(AREA, "transactions", "no other transaction is open");
    };
    let found = format!(
        "the longest transaction is open for {} (pid {pid}, application `{application}`, {state})",
        times::short(*age)
    );
    if *age < LONG {
        return Finding::ok(AREA, "transactions", found);
    }
    Finding::warn(
        AREA,
        "transactions",
        format!("{found}: until it ends, no space is reclaimed that it may still see"),
        format!("end it if it is not needed: {ended_by}"),
    )
}

/// The database's clock against this host's, which it was asked between.
pub fn clock(database: SystemTime, asked: SystemTime, answered: SystemTime) -> Finding {
    let behind = asked.duration_since(database).unwrap_or_default();
    let ahead = database.duration_since(answered).unwrap_or_default();
    let skew = behind.max(ahead);
    if skew <= SKEW {
        return Finding::ok(
            Area::Clock,
            "skew",
            "the clocks of this host and the database agree within 2 s",
        );
    }
    let direction = if ahead > behind { "ahead of" } else { "behind" };
    Finding::warn(
        Area::Clock,
        "skew",
        format!(
            "the database's clock is {} {direction} this host's: ages and times of services and relays cannot be compared",
            times::short(skew)
        ),
        "synchronize both by NTP",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Verdict;

    #[test]
    fn clocks_are_compared_within_the_time_that_the_answer_took() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (database, verdict) in [
            (100, Verdict::Ok),
            (110, Verdict::Ok),
            (98, Verdict::Ok),
            (97, Verdict::Warn),
            (113, Verdict::Warn),
        ] {
            assert_eq!(clock(at(database), at(100), at(110)).verdict, verdict, "{database}");
        }
        assert!(clock(at(50), at(100), at(110)).found.contains("50s behind"));
    }

    #[test]
    fn a_full_queue_of_notifications_is_a_warning() {
        assert_eq!(notify_queue(0.79).verdict, Verdict::Ok);
        assert_eq!(notify_queue(0.8).verdict, Verdict::Warn);
    }
}
