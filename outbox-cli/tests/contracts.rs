//! `outbox contracts`, as a project and its CI use it: two files are enough.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const BEFORE: &str = r#"format = 1

[[event]]
topic = "orders"
name = "order.placed"
version = 1
content-type = "application/json"
key = ["customer"]

[event.fields]
customer = "string"
item = "string"
"#;

struct Ran {
    code: i32,
    out: String,
    said: String,
}

fn outbox(dir: &Path, args: &[&str]) -> Ran {
    outbox_with(&[], dir, args)
}

fn outbox_with(variables: &[(&str, &str)], dir: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    for (name, _) in std::env::vars() {
        if ["OUTBOX_", "PG", "DATABASE_", "KAFKA_"].iter().any(|of| name.starts_with(of)) {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    let ran = command.arg("contracts").args(args).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: ran.status.code().expect("it ends by itself"),
        out: text(&ran.stdout),
        said: text(&ran.stderr),
    }
}

fn git(dir: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(dir).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args);
    let ran = git.output().expect("git runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// A repository whose last commit has `BEFORE`, and whose folder has `now`.
fn repository(now: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let events = dir.path().join("events");
    fs::create_dir(&events).unwrap();
    fs::write(events.join("events.lock"), BEFORE).unwrap();
    git(dir.path(), &["init", "-q"]);
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-q", "-m", "events"]);
    fs::write(events.join("events.lock"), now).unwrap();
    dir
}

#[test]
fn a_change_that_breaks_consumers_ends_with_100_and_names_rule_line_and_way_out() {
    let dir = repository(&BEFORE.replace("item = \"string\"", "item = \"u32\""));
    let args = ["check", "--lock", "events/events.lock", "--against", "git:HEAD"];
    let ran = outbox(dir.path(), &args);
    assert_eq!(ran.code, 100, "{}{}", ran.out, ran.said);
    for part in [
        "error[FIELD_SAME_TYPE]: `order.placed` version 1 of topic `orders`: `item`: it was `string`, and is now `u32`",
        "--> events/events.lock:12",
        "help: keep the type",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(ran.said.contains("1 change would break consumers"), "{}", ran.said);
    // From the folder of the file, too, whose path in the repository is longer.
    let ran = outbox(&dir.path().join("events"), &["check", "--against", "git:HEAD"]);
    assert_eq!(ran.code, 100, "{}{}", ran.out, ran.said);
}

#[test]
fn each_format_has_the_rule_and_its_place() {
    let dir = repository(&BEFORE.replace("item = ", "item2 = "));
    let lock = ["check", "--lock", "events/events.lock", "--against", "git:HEAD"];
    let ran = |format: &str| {
        let ran = outbox(dir.path(), &[&lock[..], &["--error-format", format]].concat());
        assert_eq!(ran.code, 100);
        ran.out
    };
    let github = ran("github");
    assert!(
        github.contains("::error file=events/events.lock,line=12,title=FIELD_NO_NEW_REQUIRED::"),
        "{github}"
    );
    assert_eq!(github.lines().count(), 2, "one line each: {github}");
    let json: Vec<serde_json::Value> =
        ran("json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json[0]["rule"], "FIELD_NO_DELETE");
    assert_eq!(json[0]["path"], "item");
    let junit = ran("junit");
    assert!(junit.contains("tests=\"1\" failures=\"1\""), "{junit}");
    assert!(junit.contains("FIELD_NO_DELETE, FIELD_NO_NEW_REQUIRED"), "{junit}");
}

#[test]
fn a_change_that_breaks_nobody_is_said_in_words() {
    let dir = repository(&format!("{BEFORE}note = \"string?\"\n"));
    let against = ["--lock", "events/events.lock", "--against", "git:HEAD"];
    let ran = outbox(dir.path(), &[&["check"], &against[..]].concat());
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.said);
    let ran = outbox(dir.path(), &[&["diff"], &against[..]].concat());
    assert_eq!(ran.out, "order.placed v1, on orders\n  `note` is added: `string?`\n\n");
    let ran = outbox(dir.path(), &[&["diff", "--markdown"], &against[..]].concat());
    assert_eq!(ran.out, "### `order.placed` v1, on `orders`\n\n- `note` is added: `string?`\n\n");
}

#[test]
fn a_schema_of_each_event_is_written_for_those_who_have_no_rust() {
    let dir = repository(BEFORE);
    let lock = ["--lock", "events/events.lock"];
    let ran = outbox(dir.path(), &[&["render", "jsonschema"], &lock[..]].concat());
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.said);
    let schema = fs::read_to_string(dir.path().join("contracts/orders/order.placed.v1.json"));
    let schema: serde_json::Value = serde_json::from_str(&schema.unwrap()).unwrap();
    let expected = serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "order.placed v1",
        "type": "object",
        "properties": { "customer": { "type": "string" }, "item": { "type": "string" } },
        "required": ["customer", "item"],
    });
    assert_eq!(schema, expected);
}

#[test]
fn a_document_of_all_events_is_written_as_asyncapi() {
    let dir = repository(BEFORE);
    let title = ["--title", "Order service", "--release", "1.4.0"];
    let args = [&["render", "asyncapi", "--lock", "events/events.lock"][..], &title].concat();
    let ran = outbox(dir.path(), &args);
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.said);
    let document = fs::read_to_string(dir.path().join("contracts/asyncapi.json")).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let message = document["components"]["messages"]["orders.order.placed.v1"].take();
    let expected = serde_json::json!({
        "asyncapi": "3.0.0",
        "info": { "title": "Order service", "version": "1.4.0" },
        "channels": { "orders": {
            "address": "orders",
            "messages": { "orders.order.placed.v1": {
                "$ref": "#/components/messages/orders.order.placed.v1"
            } },
            "bindings": { "kafka": { "topic": "orders", "bindingVersion": "0.5.0" } },
        } },
        "operations": { "send.orders": {
            "action": "send",
            "channel": { "$ref": "#/channels/orders" },
            "messages": [{ "$ref": "#/channels/orders/messages/orders.order.placed.v1" }],
        } },
        "components": { "messages": { "orders.order.placed.v1": null }, "schemas": {} },
    });
    assert_eq!(document, expected);
    let payload = serde_json::json!({
        "type": "object",
        "properties": { "customer": { "type": "string" }, "item": { "type": "string" } },
        "required": ["customer", "item"],
    });
    assert_eq!(message["payload"], payload);
    let example = serde_json::json!([{ "payload": { "customer": "text", "item": "text" } }]);
    assert_eq!(message["examples"], example);
    assert_eq!(message["headers"]["properties"]["ce_type"]["const"], "order.placed");
    assert_eq!(message["bindings"]["kafka"]["key"]["type"], "string");
}

#[test]
fn what_is_wanted_of_topics_is_in_the_document() {
    let dir = repository(BEFORE);
    let topics = dir.path().join("topics.toml");
    let args = ["render", "asyncapi", "--lock", "events/events.lock", "--topics", "topics.toml"];
    fs::write(&topics, "format = 1\n[topics.order]\npartitions = 12\n").unwrap();
    let ran = outbox(dir.path(), &args);
    assert_eq!(ran.code, 1, "{}", ran.said);
    assert!(
        ran.said.contains("line 2: the lock has no event on the topic `order`"),
        "{}",
        ran.said
    );
    assert!(!dir.path().join("contracts").exists());
    fs::write(&topics, "format = 1\n[topics.orders]\npartitions = 12\n").unwrap();
    let ran = outbox(dir.path(), &args);
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.said);
    let document = fs::read_to_string(dir.path().join("contracts/asyncapi.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["channels"]["orders"]["bindings"]["kafka"]["partitions"], 12);
}

#[test]
fn an_entity_of_backstage_names_the_document() {
    let dir = repository(BEFORE);
    let args = ["render", "backstage", "--lock", "events/events.lock", "--title"];
    let ran = outbox(dir.path(), &[&args[..], &["Orders: all\n"]].concat());
    assert_eq!(ran.code, 2, "{}", ran.said);
    assert!(ran.said.contains("--owner"), "{}", ran.said);
    let owned = ["Orders: \"all\"", "--owner", "group:orders"];
    let ran = outbox(dir.path(), &[&args[..], &owned].concat());
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.said);
    let entity = fs::read_to_string(dir.path().join("contracts/catalog-info.yaml")).unwrap();
    let expected = "\
apiVersion: backstage.io/v1alpha1
kind: API
metadata:
  name: \"orders-all\"
  title: \"Orders: \\\"all\\\"\"
spec:
  type: asyncapi
  lifecycle: production
  owner: \"group:orders\"
  definition:
    $text: ./asyncapi.json
";
    assert_eq!(entity, expected);
    assert!(dir.path().join("contracts/asyncapi.json").is_file());
    let ran = outbox(dir.path(), &[&args[..], &["é", "--owner", "o"]].concat());
    assert_eq!(ran.code, 2, "{}", ran.said);
    assert!(ran.said.contains("choose another `--title`"), "{}", ran.said);
}

#[test]
fn pages_for_eventcatalog_are_written_as_files() {
    let dir = repository(BEFORE);
    let title = ["--title", "Orders", "--release", "1.4.0", "--out", "catalog"];
    let args = [&["render", "eventcatalog", "--lock", "events/events.lock"][..], &title].concat();
    let ran = outbox(dir.path(), &args);
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.said);
    assert!(ran.said.contains("4 files written into catalog"), "{}", ran.said);
    let file = |path| fs::read_to_string(dir.path().join("catalog").join(path)).unwrap();
    let expected = "\
---
id: \"Orders\"
name: \"Orders\"
version: \"1.4.0\"
sends: [{\"id\":\"orders.order.placed\",\"to\":[{\"id\":\"orders\",\"version\":\"1.4.0\"}],\"version\":\"1.0.0\"}]
---

<NodeGraph />
";
    assert_eq!(file("services/Orders/index.mdx"), expected);
    assert!(file("channels/orders/index.mdx").contains("address: \"orders\""));
    assert!(file("events/orders.order.placed/index.mdx").contains("version: \"1.0.0\""));
    assert!(file("events/orders.order.placed/schema.json").contains("order.placed v1"));
}

#[test]
fn a_page_of_all_events_is_written_for_people() {
    let dir = repository(BEFORE);
    let args = ["render", "html", "--lock", "events/events.lock", "--out", "site"];
    let ran = outbox(dir.path(), &[&args[..], &["--title", "Orders & more"]].concat());
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.said);
    let page = fs::read_to_string(dir.path().join("site/index.html")).unwrap();
    assert!(page.contains("<title>Orders &amp; more</title>"), "{page}");
    assert!(page.contains("<article id=\"orders.order.placed.v1\">"), "{page}");
}

/// A pull request may have anything in the file: it moves no cursor, ends no annotation, and is no
/// element of a report.
#[test]
fn hostile_names_are_only_text() {
    let hostile = r#"a\u001b[2J\n::error::</testcase><script>\u202e`"#;
    let now =
        BEFORE.replace("order.placed", hostile).replace("item = ", &format!("\"{hostile}\" = "));
    let dir = repository(&now);
    for args in [
        &["check", "--error-format", "text"][..],
        &["check", "--error-format", "github"],
        &["check", "--error-format", "json"],
        &["check", "--error-format", "junit"],
        &["diff"],
        &["diff", "--markdown"],
    ] {
        // Both ways, so that it is the old one and the new one.
        let before = dir.path().join("before.lock");
        fs::write(&before, BEFORE).unwrap();
        for (lock, against) in
            [("events/events.lock", "before.lock"), ("before.lock", "events/events.lock")]
        {
            let ran = outbox(dir.path(), &[args, &["--lock", lock, "--against", against]].concat());
            let all = ran.out + &ran.said;
            assert!(!all.contains(['\u{1b}', '\u{202e}']), "{args:?}: {all}");
            assert!(!all.lines().any(|line| line.starts_with("::error::")), "{args:?}: {all}");
            let markup = args.contains(&"junit");
            assert!(!markup || !all.contains("</testcase><script>"), "{args:?}: {all}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    let dir = repository("format = 1\n<<<<<<< HEAD\n");
    let lock = ["--lock", "events/events.lock"];
    let ran = outbox(dir.path(), &[&["check"], &lock[..]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.said.contains("line 2: a merge conflict"), "{}", ran.said);
    let ran = outbox(dir.path(), &["check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.said.contains("--lock names another one"), "{}", ran.said);
    let ran = outbox(dir.path(), &["diff", "--against", "git:no-such-branch"]);
    assert_eq!(ran.code, 1);
    let ran = outbox(dir.path(), &["check", "--against", "git:--output=x"]);
    assert_eq!(ran.code, 2);
    let ran = outbox(dir.path(), &["check", "--mode", "fulll"]);
    assert_eq!(ran.code, 2);
    assert!(ran.said.contains("full-transitive"), "{}", ran.said);
}

#[allow(dead_code)] // what tests of the codecs need
#[path = "../../outbox-registry/tests/registry/stand_in.rs"]
mod stand_in;

const SCHEMA: &str = r#"{"type": "record", "name": "OrderPlaced", "fields": []}"#;

#[test]
fn a_schema_is_registered_from_its_file_and_what_would_break_consumers_ends_with_100() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("placed.avsc"), SCHEMA).unwrap();
    let registry = stand_in::StandIn::start();
    let register = |options: &[&str]| {
        let all = ["register", "--registry", &registry.url, "orders-value=placed.avsc"];
        outbox(dir.path(), &[&all, options].concat())
    };
    registry.answer(200, r#"{"id": 12}"#);
    let ran = register(&[]);
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert!((ran.out + &ran.said).contains("orders-value: registered, with the id 12"));
    registry.answer(409, r#"{"error_code": 409, "message": "MISSING_DEFAULT"}"#);
    let ran = register(&[]);
    assert_eq!(ran.code, 100);
    assert!(ran.said.contains("orders-value (MISSING_DEFAULT)"), "{}", ran.said);
    assert_eq!(registry.asked(), ["POST /subjects/orders-value/versions"; 2]);
}

#[test]
fn a_dry_run_registers_nothing() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("placed.avsc"), SCHEMA).unwrap();
    let registry = stand_in::StandIn::start();
    registry.register("orders-value", 7, "AVRO", SCHEMA);
    for (subject, says) in [
        ("orders-value", "registered already, with the id 7"),
        ("new-value", "would be the first version"),
    ] {
        let schema = format!("{subject}=placed.avsc");
        let ran =
            outbox(dir.path(), &["register", "--dry-run", "--registry", &registry.url, &schema]);
        assert_eq!(ran.code, 0, "{}", ran.said);
        assert!((ran.out + &ran.said).contains(says));
    }
    assert!(
        registry
            .asked()
            .iter()
            .all(|asked| !asked.ends_with("/versions") || asked.starts_with("GET"))
    );
}

#[test]
fn the_registry_gets_credentials_from_variables_or_from_the_files_that_they_name() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("placed.avsc"), SCHEMA).unwrap();
    fs::write(dir.path().join("token"), "t0ken\n").unwrap();
    let registry = stand_in::StandIn::start();
    registry.answer(200, r#"{"id": 12}"#);
    for (variables, sent) in [
        // `u:p` in Base64, of which the stand-in has small letters only.
        (&[("OUTBOX_REGISTRY_USER", "u"), ("OUTBOX_REGISTRY_PASSWORD", "p")][..], "basic dtpw"),
        // One that is empty is as one that is not set.
        (&[("OUTBOX_REGISTRY_TOKEN", ""), ("OUTBOX_REGISTRY_TOKEN_FILE", "token")], "bearer t0ken"),
    ] {
        let args = ["register", "--registry", &registry.url, "orders-value=placed.avsc"];
        let ran = outbox_with(variables, dir.path(), &args);
        assert_eq!(ran.code, 0, "{}", ran.said);
        let headers = registry.last_headers();
        assert!(headers.contains(&format!("authorization: {sent}\r\n")), "{headers}");
    }
}

#[test]
fn no_registry_is_asked_with_half_of_the_credentials_or_for_what_is_no_schema() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("placed.avsc"), SCHEMA).unwrap();
    let registry = stand_in::StandIn::start();
    let at = ["register", "--registry", &registry.url];
    for (arguments, code) in [
        (&["--registry-user", "orders", "orders-value=placed.avsc"][..], 78),
        (&["orders-value=lost.avsc"], 78),
        (&["orders-value=placed.txt"], 2),
        (&["placed.avsc"], 2),
    ] {
        let ran = outbox(dir.path(), &[&at, arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.said);
    }
    assert!(registry.asked().is_empty());
    let silent =
        outbox(dir.path(), &["register", "--registry", "http://127.0.0.1:1", "a=placed.avsc"]);
    assert_eq!(silent.code, 69, "{}", silent.said);
}

/// Events with each codec of a registry, and one without.
const WITH_CODECS: &str = r#"format = 1

[[event]]
topic = "orders"
name = "order.placed"
version = 2
content-type = "application/x-confluent-json"
key = []
reads = [1]

[[event]]
topic = "orders"
name = "order.placed"
version = 10
content-type = "application/x-confluent-json"
key = []
reads = [1, 2]

[[event]]
topic = "orders"
name = "order.gone"
version = 1
content-type = "application/x-confluent-json"
key = []
retired = true

[[event]]
topic = "payments"
name = "payment.taken"
version = 1
content-type = "application/x-confluent-avro"
key = []

[[event]]
topic = "plain"
name = "noted"
version = 1
content-type = "application/json"
key = []

[event.fields]
text = "string"
"#;

/// A project with that lock, and schemas with these titles.
fn with_schemas(schemas: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("events.lock"), WITH_CODECS).unwrap();
    for (file, title) in schemas {
        let file = dir.path().join("contracts").join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, titled(title)).unwrap();
    }
    dir
}

fn titled(title: &str) -> String {
    format!("{{\"title\": \"{title}\"}}\n")
}

const BOTH: [(&str, &str); 2] =
    [("orders/order.placed.v10.json", "Placed 10"), ("orders/order.placed.v2.json", "Placed 2")];

#[test]
fn the_schemas_of_a_lock_are_registered_in_the_order_of_versions_under_the_names_of_the_codecs() {
    let strategies: [(&[&str], [&str; 2]); 4] = [
        (&[], ["eu.orders-value", "eu.orders-value"]),
        (&["--subject-strategy", "topic"], ["eu.orders-value", "eu.orders-value"]),
        (&["--subject-strategy", "record"], ["Placed 2", "Placed 10"]),
        (&["--subject-strategy", "topic-record"], ["eu.orders-Placed 2", "eu.orders-Placed 10"]),
    ];
    let dir = with_schemas(&BOTH);
    for (strategy, subjects) in strategies {
        let registry = stand_in::StandIn::start();
        let all = ["register", "--registry", &registry.url, "--lock", "events.lock"];
        let prefixed = [("OUTBOX_TOPIC_PREFIX", "eu.")];
        let ran = outbox_with(&prefixed, dir.path(), &[&all, strategy].concat());
        assert_eq!(ran.code, 0, "{}", ran.said);
        let expected: Vec<_> = subjects
            .iter()
            .zip([2, 10])
            .map(|(subject, n)| (*subject, format!("Placed {n}")))
            .collect();
        let registered = registry.registered();
        let registered: Vec<_> =
            registered.iter().map(|(subject, text)| (&**subject, text.clone())).collect();
        let expected: Vec<_> =
            expected.iter().map(|(subject, title)| (*subject, titled(title))).collect();
        assert_eq!(registered, expected, "{strategy:?}");
        // Its schema is not in the lock, and the others are no business of a registry.
        let said = ran.out + &ran.said;
        assert!(said.contains("`payment.taken` version 1 is not registered by the lock"), "{said}");
        assert!(said.contains("SUBJECT=FILE.avsc"), "{said}");
        assert!(!said.contains("noted") && !said.contains("order.gone"), "{said}");
    }
}

#[test]
fn a_registry_that_refuses_one_schema_has_those_before_it_and_the_error_says_which() {
    let dir = with_schemas(&BOTH);
    fs::write(dir.path().join("taken.avsc"), SCHEMA).unwrap();
    let registry = stand_in::StandIn::start();
    registry.close("orders-Placed%202");
    let args = ["register", "--registry", &registry.url, "--lock", "events.lock"];
    let more = ["--subject-strategy", "topic-record", "payments-value=taken.avsc"];
    let ran = outbox(dir.path(), &[&args[..], &more].concat());
    assert_eq!(ran.code, 100, "{}", ran.said);
    for part in [
        "a new version of orders-Placed 2 (INCOMPATIBLE)",
        "Of this run, payments-value was registered before; orders-Placed 2, orders-Placed 10 were not",
    ] {
        assert!(ran.said.contains(part), "{part}: {}", ran.said);
    }
    assert_eq!(registry.registered().len(), 1);
}

#[test]
fn nothing_is_registered_by_a_lock_whose_schemas_are_not_all_there_or_would_be_one_subject() {
    let registry = stand_in::StandIn::start();
    let register = |dir: &TempDir, options: &[&str]| {
        let all = ["register", "--registry", &registry.url, "--lock", "events.lock"];
        outbox(dir.path(), &[&all, options].concat())
    };
    let one = with_schemas(&BOTH[..1]);
    let ran = register(&one, &[]);
    assert_eq!(ran.code, 78, "{}", ran.said);
    assert!(ran.said.contains("contracts/orders/order.placed.v2.json"), "{}", ran.said);

    let other = ("orders/order.paid.v1.json", "Paid");
    let dir = with_schemas(&[BOTH[0], BOTH[1], other]);
    let paid = WITH_CODECS.replace("order.gone", "order.paid").replace("retired = true\n", "");
    fs::write(dir.path().join("events.lock"), paid).unwrap();
    let ran = register(&dir, &[]);
    assert_eq!(ran.code, 78, "{}", ran.said);
    assert!(ran.said.contains("orders-value") && ran.said.contains("topic-record"), "{}", ran.said);
    assert!(registry.asked().is_empty());
    // A dry run asks, and registers nothing.
    let ran = register(&dir, &["--dry-run", "--subject-strategy", "topic-record"]);
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert!((ran.out + &ran.said).contains("orders-Paid: would be the first version"));
    assert!(registry.registered().is_empty());

    let untitled = with_schemas(&BOTH);
    fs::write(untitled.path().join("contracts/orders/order.placed.v2.json"), "{}").unwrap();
    let ran = register(&untitled, &["--subject-strategy", "record"]);
    assert_eq!(ran.code, 1, "{}", ran.said);
    assert!(
        ran.said.contains("order.placed.v2.json: its schema: it has no `title`"),
        "{}",
        ran.said
    );
}

#[test]
fn a_schema_is_registered_with_what_it_refers_to_and_only_if_it_is_said_which_does() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("placed.avsc"), SCHEMA).unwrap();
    let registry = stand_in::StandIn::start();
    let at = ["register", "--registry", &registry.url, "--reference", "shop.Item=:.eu:items:3"];
    let ran = outbox(dir.path(), &[&at[..], &["orders-value=placed.avsc"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.said);
    let sent = serde_json::json!([{ "name": "shop.Item", "subject": ":.eu:items", "version": 3 }]);
    assert_eq!(registry.last_references(), sent);
    for arguments in [
        &["orders-value=placed.avsc", "items-value=placed.avsc"][..],
        &["orders-value=placed.avsc", "--reference", "shop.Item=items-value"],
        &["orders-value=placed.avsc", "--reference", "shop.Item=items-value:0"],
        &["orders-value=placed.avsc", "--reference", "=items-value:1"],
    ] {
        let ran = outbox(dir.path(), &[&at[..], arguments].concat());
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.said);
    }
    assert_eq!(registry.registered().len(), 1);
}
