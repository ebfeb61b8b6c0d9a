//! The command through a transaction pooler, PgBouncer as it is by default: each transaction is in
//! another session, where other clients have prepared statements by the names of ours.

use std::process::{Command, Output};

use serde_json::Value;
use xtask::ScratchDir;
use xtask::servers::{PgBouncer, PgOptions, PgVersion, Postgres};

fn outbox(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    command.args(arguments).args(["-o", "json"]).env_clear().env("OUTBOX_DATABASE_URL", url);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_command_on_the_database_works_through_a_transaction_pooler() {
    let directory = ScratchDir::new("cli-pooler").unwrap();
    let postgres = Postgres::start(PgVersion::V15, directory.path(), PgOptions::default()).unwrap();
    let pooler = PgBouncer::start_keeping_statements(directory.path(), &postgres).unwrap();
    let nowhere = "01a2180f-b192-7147-ac9e-7bdb65c4e4b1";
    for (arguments, exit) in [
        (&["migrate", "up"][..], 0),
        (&["migrate", "status"], 0),
        (&["migrate", "down", "--steps", "1", "--dry-run"], 0),
        (&["status"], 0),
        (&["relay", "list"], 0),
        (&["relay", "health"], 3),
        (&["relay", "pause", "--topic", "orders", "--reason", "a test"], 0),
        (&["relay", "resume", "--topic", "orders"], 0),
        (&["events", "list", "--topic", "orders"], 0),
        (&["events", "show", nowhere], 1),
        (&["events", "replay", "--all", "--yes"], 0),
        (&["parked", "list"], 0),
        (&["parked", "release", "--all"], 0),
        (&["parked", "discard", nowhere, "--yes"], 1),
        (&["inbox", "stats"], 0),
        (&["inbox", "forget", "--group", "billing", "--older-than", "1d", "--yes"], 0),
    ] {
        let output = outbox(pooler.url(), arguments);
        let said = format!("{arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(!said.contains("prepared statement"), "{said}");
    }
    let output = outbox(pooler.url(), &["doctor", "--only", "db,schema"]);
    assert_eq!(output.status.code(), Some(0), "{} {}", text(&output.stdout), text(&output.stderr));
    let findings: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (check, verdict) in [("version", "ok"), ("pooler", "warn"), ("relays", "warn")] {
        let found = findings.iter().find(|finding| finding["check"] == check);
        let found = found.unwrap_or_else(|| panic!("no finding {check}: {findings:#?}"));
        assert_eq!(found["verdict"], verdict, "{found}");
    }
}
