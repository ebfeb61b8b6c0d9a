//! The outbox's tables, rights on them, its lanes and relays.

use std::collections::BTreeMap;

use outbox::admin::{Diagnosis, LackingRight, MigrationStatus, Status};

use super::finding::{Area, Finding};
use crate::text::counted;
use crate::times;

const AREA: Area = Area::Schema;
const FEW_LEAVES: u32 = 3;

/// Whether the tables are there and of this program's version.
pub fn version(migrations: &MigrationStatus) -> Finding {
    let MigrationStatus { version, latest, schema, .. } = migrations;
    let place = schema.as_ref().map_or_else(String::new, |schema| format!(" in schema {schema}"));
    match (*version, *latest) {
        (0, _) => Finding::fail(
            AREA,
            "version",
            format!("there are no tables of an outbox{place}: services cannot emit"),
            "run `outbox migrate up`, or name the right schema and prefix by --schema and --table-prefix",
        ),
        (has, knows) if has < knows => Finding::fail(
            AREA,
            "version",
            format!("the tables{place} are of version {has}, and this command knows {knows}"),
            "run `outbox migrate up`",
        ),
        (has, knows) if has > knows => Finding::fail(
            AREA,
            "version",
            format!(
                "the tables{place} are of version {has}, newer than the {knows} that this command knows"
            ),
            "use the command of the version that migrated them, or a newer one",
        ),
        (has, _) => Finding::ok(
            AREA,
            "version",
            format!("the tables{place} are of version {has}, the latest"),
        ),
    }
}

/// What this user may not do, for each who would do it.
pub fn rights(diagnosis: &Diagnosis) -> Vec<Finding> {
    rights_of(&["emitter", "relay", "consumer", "operator"], diagnosis)
}

/// The same for a relay that delivers exactly once.
pub fn rights_for_exactly_once(diagnosis: &Diagnosis) -> Vec<Finding> {
    rights_of(&["exactly_once"], diagnosis)
}

fn rights_of(who: &[&str], diagnosis: &Diagnosis) -> Vec<Finding> {
    let (Some(user), Some(rights)) = (&diagnosis.user, &diagnosis.lacking_rights) else {
        return Vec::new();
    };
    let mut lacking: BTreeMap<&str, Vec<&LackingRight>> = BTreeMap::new();
    for right in rights {
        lacking.entry(&right.who).or_default().push(right);
    }
    who.iter()
        .map(|who| match lacking.get(*who) {
            None => Finding::ok(AREA, "rights", format!("user {user} has the rights of: {who}")),
            Some(rights) => without(user, who, rights),
        })
        .collect()
}

fn without(user: &str, who: &str, rights: &[&LackingRight]) -> Finding {
    let mut by_right: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for right in rights {
        by_right.entry(&right.right).or_default().push(&right.object);
    }
    let words: Vec<String> = by_right
        .iter()
        .map(|(right, objects)| match objects.as_slice() {
            [one] => format!("{right} on {one}"),
            [first, rest @ ..] => format!("{right} on {first} and {} others", rest.len()),
            [] => (*right).to_owned(),
        })
        .collect();
    Finding::warn(
        AREA,
        "rights",
        format!("user {user} lacks rights of: {who} ({})", words.join(", ")),
        "if this user does that, grant what the guide's page `postgres` lists",
    )
}

/// Who publishes, and what holds them back.
pub fn relays(status: &Status, diagnosis: &Diagnosis) -> Vec<Finding> {
    let mut findings = vec![cluster(diagnosis), lanes(status), parked(status)];
    findings.extend(status.leaves_free.map(leaves));
    if !status.pauses.is_empty() {
        findings.push(Finding::warn(
            AREA,
            "paused",
            format!("{} things are paused by operators: their events wait", status.pauses.len()),
            "`outbox relay list` shows them, `outbox relay resume` ends a pause",
        ));
    }
    findings
}

fn cluster(diagnosis: &Diagnosis) -> Finding {
    if diagnosis.is_of_another_cluster {
        return Finding::fail(
            AREA,
            "cluster",
            "the progress is in the transaction ids of another Postgres cluster: no relay claims lanes, so no event is published",
            "run a relay: its error says how to move the progress after a restore",
        );
    }
    Finding::ok(AREA, "cluster", "the progress is of this server")
}

fn lanes(status: &Status) -> Finding {
    let alive = status.relays.iter().filter(|relay| relay.is_alive).count();
    let unowned = status.lanes.iter().filter(|lane| lane.owner.is_none()).count();
    let found =
        format!("relays alive: {alive}; lanes without one: {unowned} of {}", status.lanes.len());
    if unowned == 0 {
        return Finding::ok(AREA, "relays", found);
    }
    let waits = status.lanes.iter().any(|lane| lane.owner.is_none() && lane.backlog > 0);
    let fix = "start a relay: `outbox relay run`, or a service with one in it";
    if !waits {
        return Finding::warn(AREA, "relays", format!("{found}: what is emitted there waits"), fix);
    }
    let age = status.oldest_pending.map_or_else(String::new, |oldest| {
        format!(", the oldest for {}", times::short(times::age(oldest)))
    });
    Finding::fail(AREA, "relays", format!("{found}, and events wait there{age}"), fix)
}

fn parked(status: &Status) -> Finding {
    if status.parked == 0 {
        return Finding::ok(AREA, "parked", "no event is parked");
    }
    Finding::warn(
        AREA,
        "parked",
        format!(
            "{} parked: Kafka refuses them, or an earlier one of their key",
            counted(status.parked, "event")
        ),
        "`outbox parked list` says why",
    )
}

fn leaves(free: u32) -> Finding {
    let found = format!("{free} of 16 leaves of the ring are free");
    if free >= FEW_LEAVES {
        return Finding::ok(AREA, "retention", found);
    }
    Finding::warn(
        AREA,
        "retention",
        format!("{found}: published events are kept for less than their retention"),
        "shorten --retention, or see whether a long transaction or a backlog holds back reclaiming",
    )
}
