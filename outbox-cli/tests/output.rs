//! What the command prints, as people and as programs read it. Names and order of the fields are an
//! interface.

use std::process::Command;
use std::time::Duration;

use outbox::admin::ParkedFilter;
use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, Outbox, Relay};
use serde::Serialize;
use sqlx::Sqlite;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 2)]
struct OrderPlaced {
    #[event(key)]
    customer: String,
    #[event(header)]
    tenant: String,
}

/// A SQLite file with an event of bob, which is published, two of mallory, of which the first was
/// refused and the second waits behind it, and one of carol, which is pending.
struct Scene {
    outbox: Outbox<Sqlite>,
    dir: TempDir,
}

const FILE: &str = "sqlite:orders.db";

impl Scene {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("orders.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let outbox = Outbox::new(sqlx::SqlitePool::connect_with(options).await.unwrap());
        outbox.migrate().await.unwrap();
        let scene = Self { outbox, dir };
        for customer in ["bob", "mallory", "mallory"] {
            scene.order(customer).await;
        }
        let kafka = MemoryPublisher::new();
        kafka.refuse(|event| {
            (event.key.as_deref() == Some(b"mallory")).then(|| "not for mallory".to_owned())
        });
        let relay = Relay::builder(scene.outbox.clone(), kafka).park_after(1).build().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
        let parked = async || scene.outbox.count_parked(&ParkedFilter::all()).await.unwrap();
        let both = async {
            while parked().await < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        stop.send(()).unwrap();
        relay.await.unwrap().unwrap();
        scene.order("carol").await;
        scene
    }

    async fn order(&self, customer: &str) {
        let mut tx = self.outbox.begin().await.unwrap();
        let order = OrderPlaced { customer: customer.to_owned(), tenant: "acme".to_owned() };
        tx.emit(order).unwrap();
        tx.commit().await.unwrap();
    }

    /// The output of a command that succeeds.
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_outbox"))
            .args(["--database-url", FILE])
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Without what differs from run to run.
fn snapshots(body: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    for (found, shown) in [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "[id]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
        (r#"("[a-z_]*seconds":)\d[\d.e-]*"#, "$1[seconds]"),
        (r"\b\d+(ms|s|m)\b", "[age]"),
        // The width of a column is that of its widest value.
        (r" {2,}", "  "),
    ] {
        settings.add_filter(found, shown);
    }
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(body);
}

#[tokio::test]
async fn what_people_and_programs_read_is_as_it_was() {
    let scene = Scene::new().await;
    let id = scene.run(&["events", "list", "--key", "mallory", "-o", "json"]);
    let rows = id.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ids: Vec<String> = rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    let [waits, refused] = &*ids else { panic!("{ids:?}") };
    scene.run(&["relay", "pause", "--topic", "returns", "--reason", "stocktaking", "--by", "ann"]);
    let commands: [(&str, &[&str]); 13] = [
        ("status", &["status"]),
        ("relay list", &["relay", "list"]),
        ("migrate status", &["migrate", "status"]),
        ("migrate up", &["migrate", "up"]),
        ("migrate down", &["migrate", "down", "--dry-run", "--force"]),
        ("events list", &["events", "list"]),
        ("events show", &["events", "show", refused, "--group", "inventory"]),
        ("events replay", &["events", "replay", "--topic", "orders", "--dry-run"]),
        ("parked list", &["parked", "list"]),
        ("parked by reason", &["parked", "list", "--group-by", "reason"]),
        ("parked show", &["parked", "show", waits]),
        ("parked release", &["parked", "release", "--all", "--dry-run"]),
        ("doctor", &["doctor", "--only", "clock"]),
    ];
    snapshots(|| {
        for (name, arguments) in commands {
            for format in ["table", "json"] {
                let printed = scene.run(&[arguments, &["-o", format]].concat());
                insta::assert_snapshot!(format!("{name} {format}").replace(' ', "_"), printed);
            }
        }
        for format in ["wide", "yaml"] {
            let printed = scene.run(&["parked", "list", "-o", format]);
            insta::assert_snapshot!(format!("parked_list_{format}"), printed);
        }
    });
}
