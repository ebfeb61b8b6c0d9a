//! The lock as a user meets it: a crate that depends on `outbox`, and what `cargo test` says in it.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::cargo_test;
use tempfile::TempDir;

const MANIFEST: &str = r#"
[package]
name = "NAME"
edition = "2024"

[workspace]

[dependencies]
outbox = { path = "ROOT", features = ["schema"] }
serde = { version = "1", features = ["derive"] }
"#;

const USES: &str = "
use outbox::DomainEvent;
use outbox::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};
";

/// A crate in a folder of its own. All share the folder of what is built.
struct Crate {
    _root: TempDir,
    folder: PathBuf,
}

impl Crate {
    /// `name` differs between tests, since they run side by side.
    fn new(name: &str, source: &str) -> Self {
        let root = TempDir::new().unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = root.path().join(name);
        fs::create_dir_all(folder.join("src")).unwrap();
        let manifest = MANIFEST.replace("NAME", name).replace("ROOT", workspace.to_str().unwrap());
        fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        let made = Self { _root: root, folder };
        made.source(source);
        made
    }

    fn source(&self, source: &str) {
        fs::write(self.folder.join("src/lib.rs"), format!("{USES}{source}")).unwrap();
    }

    fn lock(&self) -> PathBuf {
        self.folder.join("events.lock")
    }

    fn cargo_test(&self, variables: &[(&str, &str)]) -> (bool, String) {
        cargo_test(&self.folder, "contracts", &[], variables)
    }

    #[track_caller]
    fn passes(&self, variables: &[(&str, &str)]) -> String {
        let (passes, said) = self.cargo_test(variables);
        assert!(passes, "{said}");
        assert!(!said.contains("warning"), "{said}");
        said
    }

    /// All of these are said.
    #[track_caller]
    fn fails(&self, variables: &[(&str, &str)], words: &[&str]) -> String {
        let (passes, said) = self.cargo_test(variables);
        assert!(!passes, "{said}");
        for word in words {
            assert!(said.contains(word), "`{word}` is not in:\n{said}");
        }
        said
    }

    fn accept(&self) -> String {
        self.passes(&[("OUTBOX_CONTRACTS", "accept")])
    }
}

const PLACED: &str = r#"
#[derive(Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
pub struct OrderPlaced {
    #[event(key)]
    pub customer: String,
    pub item: String,
}
"#;

#[test]
fn a_change_that_breaks_consumers_fails_and_others_are_written_down() {
    let events = Crate::new("first-run", PLACED);
    events.fails(
        &[],
        &["there is no lock of events yet", "`OUTBOX_CONTRACTS=accept cargo test` writes it"],
    );
    events.fails(&[("CI", "true")], &["there is no lock of events here", "on your machine"]);
    assert!(!events.lock().exists(), "nothing is written unasked");
    events.fails(
        &[("OUTBOX_CONTRACTS", "yes")],
        &["`OUTBOX_CONTRACTS` is \"yes\", which means nothing"],
    );
    let in_ci = [("CI", "true"), ("OUTBOX_CONTRACTS", "accept")];
    events.fails(&in_ci, &["is set in CI"]);

    assert!(
        events.accept().contains("the event `order.placed` version 1 of topic `orders` is new")
    );
    events.passes(&[]);
    events.passes(&[("CI", "true")]);
    let written = fs::read_to_string(events.lock()).unwrap();
    assert!(written.contains("item = \"string\""), "{written}");

    // The field is called otherwise for people, and as before for consumers.
    events.source(&PLACED.replace("pub item", "#[serde(rename = \"item\")] pub article"));
    events.passes(&[]);
    events.source(&PLACED.replace("pub customer", "#[serde(rename = \"customer\")] pub buyer"));
    events.passes(&[]);

    events.source(&PLACED.replace("item", "article"));
    let said =
        events.fails(&[], &["FIELD_NO_DELETE", "`item`: it is gone", "upcast_from", "accept"]);
    assert!(said.contains("events.lock:14"), "the line of the field: {said}");
    assert_eq!(fs::read_to_string(events.lock()).unwrap(), written);

    // A change that breaks no consumer is written down as well.
    let wider = PLACED.replace("pub item", "pub note: Option<String>, pub item");
    events.source(&wider);
    events.fails(&[], &["`note` is added", "this breaks no consumer"]);
    assert!(events.accept().contains("`note` is added"));
    events.passes(&[]);

    // What was accepted is named.
    events.source(PLACED);
    let said = events.accept();
    assert!(said.contains("`note` is removed"), "{said}");
    assert!(fs::read_to_string(events.lock()).unwrap().contains("[event.removed]"));
    events.passes(&[]);

    events.source(&PLACED.replace("\"orders\"", "\"sales\""));
    events.fails(&[], &["EVENT_SAME_TOPIC", "`orders` in the lock"]);
    events
        .source(&PLACED.replace("#[event(key)]", "").replace("pub item", "#[event(key)] pub item"));
    events.fails(&[], &["EVENT_SAME_KEY", "it had the key `customer`, and now has the key `item`"]);
    events.source(
        &PLACED
            .replace("JsonSchema, DomainEvent)]", "DomainEvent)]")
            .replace("name =", "unlocked, name ="),
    );
    let (passes, said) = events.cargo_test(&[]);
    assert!(passes, "what is left out needs no schema: {said}");
}

#[test]
fn a_catalogue_has_all_events_and_the_types_of_generic_ones() {
    let generic = r#"
#[derive(Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "changes", keyless)]
pub struct Changed<T> { pub to: T }

#[derive(Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "shipments", name = "lost", keyless)]
pub struct Lost<'a> { pub why: &'a str }

#[derive(Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "shipments")]
#[serde(rename_all = "kebab-case")]
pub enum Shipment {
    #[event(keyless)]
    Late,
    SentOff { #[event(key)] order: u64 },
}

#[derive(DomainEvent)]
#[event(transparent)]
pub enum Any { Changed(Box<Changed<String>>), Shipment(Shipment) }
"#;
    let whole = format!("{generic}\noutbox::catalogue![Any, Lost<'static>];");
    let events = Crate::new("whole", &whole);
    events.accept();
    events.passes(&[]);
    let lock = fs::read_to_string(events.lock()).unwrap();
    assert_eq!(lock.matches("[[event]]").count(), 4, "{lock}");
    assert!(lock.contains("name = \"SentOff\"") && lock.contains("order = \"u64\""), "{lock}");

    events.source(&whole.replace("Any, ", "Changed<u8>, "));
    events.fails(
        &[],
        &[
            "FIELD_SAME_TYPE",
            "EVENT_NO_DELETE",
            "`SentOff` version 1 of topic `shipments` is in the lock",
        ],
    );
    // What people wrote into the lock stays.
    let retired = lock.replace(
        "name = \"lost\"\nversion = 1\n",
        "name = \"lost\"\nversion = 1\nretired = true\n",
    );
    fs::write(events.lock(), &retired).unwrap();
    events.source(&whole.replace(", Lost<'static>", ""));
    events.accept();
    events.passes(&[]);
    assert!(fs::read_to_string(events.lock()).unwrap().contains("retired = true"));
}

#[test]
fn a_version_that_does_not_read_the_ones_before_does_not_compile() {
    let of = |version: u32, upcast: &str| {
        format!(
            r#"
#[derive(Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = {version}{upcast})]
pub struct V{version} {{
    #[event(key)]
    pub customer: String,
}}
"#
        )
    };
    let from = |old: u32, new: u32| {
        format!(
            "impl From<V{old}> for V{new} {{ fn from(old: V{old}) -> Self {{ Self {{ customer: old.customer }} }} }}"
        )
    };
    let chain = format!(
        "{}{}{}{}{}",
        of(1, ""),
        of(2, ", upcast_from = V1"),
        of(3, ", upcast_from = V2"),
        from(1, 2),
        from(2, 3)
    );
    let events = Crate::new("versions", &chain);
    events.accept();
    events.passes(&[]);
    let lock = fs::read_to_string(events.lock()).unwrap();
    assert!(lock.contains("reads = [1, 2]"), "{lock}");

    // The last step, and one in the middle.
    events.source(&of(3, ""));
    let said = events.fails(
        &[],
        &[
            "`V3` is version 3 of `order.placed`, and no version 2 becomes it",
            "has versions 1 and 2",
        ],
    );
    assert!(said.contains("due to 1 previous error"), "one mistake is one error: {said}");
    events.source(&format!("{}{}{}", of(2, ""), of(3, ", upcast_from = V2"), from(2, 3)));
    events.fails(&[], &["`V2` is version 2 of `order.placed`, and no version 1 becomes it"]);

    // The compiler looks again when only the lock has changed.
    let first = lock.find("[[event]]").unwrap();
    let blocks: Vec<&str> = lock[first..].split("\n[[event]]").collect();
    assert_eq!(blocks.len(), 3);
    let last = format!("format = 1\n\n[[event]]{}", blocks[2].replace("reads = [1, 2]\n", ""));
    fs::write(events.lock(), &last).unwrap();
    events.source(&of(3, ""));
    events.passes(&[]);
    fs::write(events.lock(), &lock).unwrap();
    events.fails(&[], &["no version 2 becomes it"]);
    let retired = lock.replace("version = 1\n", "version = 1\nretired = true\n");
    fs::write(events.lock(), retired.replace("version = 2\n", "version = 2\nretired = true\n"))
        .unwrap();
    events.fails(&[], &["its consumers do not read version 1 any more"]);
    events.accept();
    events.passes(&[]);
}

#[test]
fn a_consumer_is_checked_against_the_lock_of_who_emits() {
    let emitter = Crate::new("emitter", PLACED);
    emitter.accept();
    let reader = |fields: &str, lock: &str| {
        format!(
            r#"
#[derive(Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "orders", name = "order.placed", emitted_by = {lock})]
pub struct Order {{
    #[event(key)]
    pub customer: String,
    {fields}
}}
"#
        )
    };
    let path = format!("{:?}", emitter.lock());
    let consumer = Crate::new("consumer", &reader("pub note: Option<u8>,", &path));
    consumer.passes(&[]);
    assert!(!consumer.lock().exists(), "it is no event of the consumer");
    consumer.source(&reader("pub item: u32, pub shop: String,", &path));
    let words = [
        "FIELD_SAME_TYPE",
        "`item`: it is emitted as `string`, and this type reads `u32`",
        "FIELD_NO_NEW_REQUIRED",
        "`shop`: this type requires it, and it is not emitted",
        "make it an `Option`",
    ];
    consumer.fails(&[], &words);
    consumer.fails(&[("OUTBOX_CONTRACTS", "accept")], &words);

    consumer.source(&reader("", &path).replace("order.placed", "order.payed"));
    consumer.fails(&[], &["is not in the lock of who emits it", "`order.placed` version 1"]);
    consumer.source(&reader("", "\"../nowhere/events.lock\""));
    consumer.fails(&[], &["names a file that is not there"]);

    // A crate that ships its lock.
    let shipped = format!("pub const ORDERS: &str = include_str!({path});\n");
    consumer.source(&format!("{shipped}{}", reader("pub item: String,", "crate::ORDERS")));
    consumer.passes(&[]);
    consumer.source(&format!("{shipped}{}", reader("pub item: bool,", "ORDERS")));
    consumer.fails(&[], &["the lock in `emitted_by`", "FIELD_SAME_TYPE"]);

    // A revision.
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]);
        let output = git.args(arguments).current_dir(&consumer.folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    fs::copy(emitter.lock(), consumer.folder.join("theirs.lock")).unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "theirs.lock"]);
    git(&["commit", "--quiet", "--message", "x"]);
    fs::remove_file(consumer.folder.join("theirs.lock")).unwrap();
    consumer.source(&reader("pub item: String,", "\"git:HEAD:./theirs.lock\""));
    consumer.passes(&[]);
    consumer.source(&reader("pub item: bool,", "\"git:HEAD:./theirs.lock\""));
    consumer.fails(&[], &["HEAD:./theirs.lock", "FIELD_SAME_TYPE"]);
    consumer.source(&reader("", "\"git:HEAD:./other.lock\""));
    consumer.fails(&[], &["git has no HEAD:./other.lock"]);
}

#[test]
fn a_type_without_a_schema_is_one_error_that_says_what_to_write() {
    let events =
        Crate::new("no-schema", &PLACED.replace("JsonSchema, DomainEvent)]", "DomainEvent)]"));
    let said = events.fails(
        &[],
        &[
            "nothing says what is in the payload of `OrderPlaced`",
            "`JsonSchema` is not implemented for `OrderPlaced`",
            "add `#[derive(JsonSchema)]`",
            "`use outbox::schemars::{self, JsonSchema};`",
            "`#[event(unlocked)]`",
        ],
    );
    assert!(said.contains("due to 1 previous error"), "{said}");
    events.source("outbox::catalogue![String];");
    let said =
        events.fails(&[], &["`String` has no contract", "#[derive(JsonSchema, DomainEvent)]"]);
    assert!(said.contains("due to 1 previous error"), "{said}");
}
