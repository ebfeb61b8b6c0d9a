//! The exit codes that the guide names, and the JSON that programs read, on an outbox in a file.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

struct Ran {
    code: i32,
    out: String,
    said: String,
}

/// Runs the command in a folder of its own, with none of the variables of the one who tests.
fn outbox(dir: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    for (name, _) in std::env::vars() {
        if ["OUTBOX_", "PG", "DATABASE_", "KAFKA_"].iter().any(|of| name.starts_with(of)) {
            command.env_remove(name);
        }
    }
    let ran = command.args(args).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: ran.status.code().expect("it ends by itself"),
        out: text(&ran.stdout),
        said: text(&ran.stderr),
    }
}

const FILE: &str = "sqlite:outbox.db?mode=rwc";
/// Nobody listens there.
const DEAD: &str = "postgres://relay:hunter2@127.0.0.1:1/orders";

fn migrated() -> TempDir {
    let dir = TempDir::new().unwrap();
    let ran = outbox(dir.path(), &["-D", FILE, "migrate", "up"]);
    assert_eq!(ran.code, 0, "{}", ran.said);
    dir
}

#[test]
fn each_outcome_has_its_exit_code() {
    let (empty, dir) = (TempDir::new().unwrap(), migrated());
    let (empty, dir) = (empty.path(), dir.path());
    let unknown = "01a21810-1a6d-7639-9d88-08b4384015fd";
    for (code, dir, args) in [
        (0, dir, &["-D", FILE, "status"][..]),
        (0, empty, &["completions", "bash"]),
        (0, empty, &["migrate", "print", "-D", FILE]),
        (1, dir, &["-D", FILE, "parked", "show", unknown]),
        (2, dir, &["-D", FILE, "status", "--fail-if-parkd"]),
        (2, dir, &["-D", FILE, "migrate", "down"]),
        // Its output is no terminal.
        (2, dir, &["-D", FILE, "top"]),
        (2, dir, &["-D", FILE, "parked", "release"]),
        (3, dir, &["-D", FILE, "relay", "health"]),
        (3, empty, &["-D", FILE, "migrate", "status", "--fail-if-pending"]),
        (69, empty, &["-D", DEAD, "status"]),
        (78, empty, &["status"]),
        (78, empty, &["-D", FILE, "status"]),
        (78, empty, &["-D", "oracle://db/orders", "status"]),
    ] {
        let ran = outbox(dir, args);
        assert_eq!(ran.code, code, "outbox {}: {}{}", args.join(" "), ran.out, ran.said);
        // Whoever gets another code is told why, and whoever reads data gets nothing but data.
        assert!((code == 0) == ran.said.is_empty(), "{args:?}: {}", ran.said);
    }
}

#[test]
fn what_cannot_be_handed_over_is_told_of_before_its_database_is_opened() {
    let dir = TempDir::new().unwrap();
    for command in [&["to-debezium"][..], &["follow", "--once"], &["follow"]] {
        for database in [FILE, "mysql://relay@127.0.0.1:1/orders"] {
            let ran = outbox(dir.path(), &[&["-D", database, "handoff"], command].concat());
            assert_eq!(ran.code, 78, "{command:?} {database}: {}", ran.said);
            assert!(ran.said.contains("only an outbox on Postgres can be handed over"));
        }
    }
    assert!(!dir.path().join("outbox.db").exists());
}

#[test]
fn a_password_is_in_nothing_that_is_said() {
    let dir = TempDir::new().unwrap();
    for args in [&["-D", DEAD, "status"][..], &["-D", DEAD, "doctor", "--only", "db"]] {
        let ran = outbox(dir.path(), args);
        assert_ne!(ran.code, 0);
        assert!(ran.said.contains("127.0.0.1"), "{}", ran.said);
        assert!(!(ran.out + &ran.said).contains("hunter2"));
    }
}

#[test]
fn an_unknown_name_in_the_file_is_an_error_that_does_not_show_its_value() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("outbox.toml"), "databse-url = \"hunter2\"\n").unwrap();
    let ran = outbox(dir.path(), &["status"]);
    assert_eq!(ran.code, 78);
    assert!(ran.said.contains("databse-url") && !ran.said.contains("hunter2"), "{}", ran.said);
}

#[test]
fn the_json_of_an_empty_outbox_is_as_programs_expect_it() {
    let dir = migrated();
    let ran = outbox(dir.path(), &["-D", FILE, "status", "-o", "json"]);
    let (before, lanes) = ran.out.split_once("\"lanes\":[").unwrap();
    let (lane, after) = lanes.split_once("},").unwrap();
    let after = after.split_once("],").unwrap().1;
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[time]");
    settings.bind(|| {
        insta::assert_snapshot!(before, @r#"{"at":"[time]","pending":0,"pending_is_estimate":false,"oldest_pending":null,"oldest_pending_seconds":null,"parked":0,"oldest_parked":null,"set_aside":0,"leaves_free":null,"#);
        insta::assert_snapshot!(lane, @r#"{"lane":0,"pending":0,"oldest_pending":null,"oldest_pending_seconds":null,"relay":null"#);
        insta::assert_snapshot!(after, @r#""relays":[],"pauses":[],"delivery":"at-least-once","groups":[]}"#);
    });
}
