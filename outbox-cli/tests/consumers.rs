//! `outbox consumers`, `inbox` and `topics` as processes, on a real Kafka, with a consumer that has
//! run.

use std::process::{Command, Output};
use std::time::Duration;

use outbox::consume::{Consumer, EventContext, handler_fn};
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, OutboxTx, Relay};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};
use uuid::Uuid;

const BOUND: Duration = Duration::from_secs(60);

#[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
}

async fn take(
    _: &mut OutboxTx<'_, Sqlite>,
    _: OrderPlaced,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set, and this test needs a real server: run `cargo xtask test`")
    })
}

/// Topics of its own, by their prefix.
struct Topics {
    admin: AdminClient<DefaultClientContext>,
    prefix: String,
}

impl Topics {
    fn new() -> Self {
        let client = ClientConfig::new().set("bootstrap.servers", server("KAFKA_BROKERS")).clone();
        let prefix = format!("cli-{}-", Uuid::now_v7().simple());
        Self { admin: client.create().unwrap(), prefix }
    }

    async fn create(&self, partitions: i32) {
        let name = format!("{}orders", self.prefix);
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for created in self.admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            created.unwrap();
        }
    }

    async fn publish(&self, outbox: &Outbox<Sqlite>, customers: &[&str]) {
        for customer in customers {
            let mut tx = outbox.begin().await.unwrap();
            tx.emit(OrderPlaced { customer: (*customer).to_owned() }).unwrap();
            tx.commit().await.unwrap();
        }
        let publisher = KafkaPublisher::builder(&*server("KAFKA_BROKERS"));
        let publisher = publisher.topic_prefix(&self.prefix).build().unwrap();
        let drain = Relay::new(outbox.clone(), publisher).drain();
        tokio::time::timeout(BOUND, drain).await.unwrap().unwrap();
    }

    /// Runs a consumer until it has handled so many events.
    async fn consume(&self, outbox: &Outbox<Sqlite>, group: &str, events: u32) {
        let consumer = Consumer::builder(outbox.clone(), &*server("KAFKA_BROKERS"))
            .group(group)
            .topic_prefix(&self.prefix)
            .handler(handler_fn(take))
            .build()
            .unwrap();
        let enough = async {
            let handled = "select count(*) from outbox_inbox";
            while sqlx::query_scalar::<_, i64>(handled).fetch_one(outbox.pool()).await.unwrap()
                < i64::from(events)
            {
                tokio::task::yield_now().await;
            }
        };
        let consumed = consumer.run(enough);
        let consumed = tokio::time::timeout(BOUND, consumed).await.unwrap().unwrap();
        assert_eq!(consumed.handled, u64::from(events));
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let brokers = server("KAFKA_BROKERS");
        let kafka = ["-b", &brokers, "--topic-prefix", &self.prefix];
        ran(&[arguments, &kafka[..]].concat())
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    said: String,
}

fn ran(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    let Output { status, stdout, stderr } = command.args(arguments).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), said: text(stderr) }
}

impl Ran {
    /// What it prints, if it succeeds and says nothing.
    fn printed(self) -> String {
        assert_eq!((self.code, &*self.said), (Some(0), ""), "{}", self.out);
        self.out
    }
}

async fn file(directory: &tempfile::TempDir) -> (Outbox<Sqlite>, String) {
    let path = directory.path().join("orders.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let outbox = Outbox::new(SqlitePool::connect_with(options).await.unwrap());
    outbox.migrate().await.unwrap();
    (outbox, format!("sqlite:{}", path.display()))
}

/// What differs between runs.
fn stable(prefix: &str) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(prefix, "[prefix]-");
    settings.add_filter(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[time]");
    // A fraction has as many digits as it needs.
    settings.add_filter(r"OLDEST +LATEST", "OLDEST  LATEST");
    settings.add_filter(r#""oldest_age_seconds":[\d.]+"#, r#""oldest_age_seconds":[n]"#);
    settings.add_filter(r"  \d+m?s +", "  [age]  ");
    settings
}

#[tokio::test]
async fn a_group_is_listed_with_what_it_is_behind_by_and_its_inbox_is_counted_and_forgotten() {
    let (directory, topics) = (tempfile::tempdir().unwrap(), Topics::new());
    let (outbox, url) = file(&directory).await;
    topics.create(1).await;
    topics.publish(&outbox, &["ann", "bob"]).await;
    topics.consume(&outbox, "inventory", 2).await;
    topics.publish(&outbox, &["ann"]).await;

    let kafka_only = ["consumers", "list", "--topic", "orders", "-o", "json"];
    let with_database = ["consumers", "list", "--topic", "orders", "-D", &url];
    stable(&topics.prefix).bind(|| {
        insta::assert_snapshot!(topics.run(&kafka_only).printed(), @r#"{"group":"inventory","topic":"orders","members":0,"lag":1,"oldest":"[time]","oldest_age_seconds":[n],"in_retry_topics":0,"waiting_keys":null,"kept_events":null}"#);
        insta::assert_snapshot!(topics.run(&with_database).printed(), @r#"
        GROUP      TOPIC   MEMBERS  LAG  OLDEST  IN RETRY TOPICS  WAITING KEYS
        inventory  orders  0        1    [age]  0                0
        "#);
    });
    let wide = topics.run(&[&with_database[..], &["-o", "wide"]].concat()).printed();
    assert!(wide.lines().next().unwrap().ends_with("KEPT EVENTS"), "{wide}");
    for other in [["--group", "billing"], ["--topic", "invoices"]] {
        let none = topics.run(&[&["consumers", "list"][..], &other].concat());
        assert_eq!((none.code, &*none.out), (Some(0), ""));
        assert!(none.said.contains("no consumer group"), "{}", none.said);
    }

    let stats = || ran(&["inbox", "stats", "-D", &url]).printed();
    stable(&topics.prefix).bind(|| {
        insta::assert_snapshot!(stats(), @r#"
        GROUP      HANDLED  OLDEST  LATEST
        inventory  2        [time]  [time]
        "#);
        let json = ran(&["inbox", "stats", "-D", &url, "-o", "json"]).printed();
        insta::assert_snapshot!(json, @r#"{"group":"inventory","handled":2,"at_least":false,"oldest":"[time]","latest":"[time]"}"#);
    });
    sqlx::query("update outbox_inbox set handled_at = handled_at - 40 * 86400000 where event_id = (select min(event_id) from outbox_inbox)")
        .execute(outbox.pool())
        .await
        .unwrap();
    forgets(&["-D", &url], "inventory", "30d");
    assert_eq!(stats().lines().count(), 2, "one event is left, of one group");
    assert!(stats().contains("inventory  1 "), "{}", stats());
}

/// Of a group with one event that is older than this.
fn forgets(database: &[&str], group: &str, older_than: &str) {
    let forget = ["inbox", "forget", "--group", group, "--older-than", older_than];
    let forget = |more: &[&str]| ran(&[&forget[..], database, more].concat());
    let unconfirmed = forget(&[]);
    assert_eq!((unconfirmed.code, &*unconfirmed.out), (Some(2), ""), "{}", unconfirmed.said);
    let dry = forget(&["--dry-run"]).printed();
    insta::allow_duplicates! {
        insta::assert_snapshot!(dry, @"1 handled events of inventory would be forgotten; nothing was done");
        let again = forget(&["--dry-run", "-o", "json"]).printed();
        insta::assert_snapshot!(again, @r#"{"group":"inventory","dry_run":true,"events":1,"at_least":false}"#);
        let forgotten = forget(&["--yes", "-o", "json"]).printed();
        insta::assert_snapshot!(forgotten, @r#"{"group":"inventory","dry_run":false,"events":1,"at_least":false}"#);
        insta::assert_snapshot!(forget(&["--yes"]).printed(), @"forgot 0 handled events of inventory");
    }
}

#[tokio::test]
async fn an_inbox_in_postgres_is_counted_and_forgotten() {
    let url = server("DATABASE_URL");
    let pool = PgPool::connect(&url).await.unwrap();
    let schema = format!("inbox_{}", Uuid::now_v7().simple());
    let run = async |statement: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    };
    run(format!("create schema {schema}")).await;
    let outbox: Outbox<Postgres> = Outbox::builder(pool.clone()).schema(&schema).build().unwrap();
    outbox.migrate().await.unwrap();
    let database = ["-D", &*url, "--schema", &*schema];
    let stats = |more: &[&str]| ran(&[&["inbox", "stats"][..], &database, more].concat());
    let none = stats(&[]);
    assert_eq!((none.code, &*none.out), (Some(0), ""));
    assert!(none.said.contains("no consumer group"), "{}", none.said);
    run(format!(
        "insert into {schema}.outbox_inbox (consumer_group, event_id, handled_at) values
         ('inventory', gen_random_uuid(), now() - interval '40 days'), ('inventory', gen_random_uuid(), now()),
         ('billing', gen_random_uuid(), now())"
    ))
    .await;
    stable("no prefix").bind(|| {
        insta::assert_snapshot!(stats(&[]).printed(), @r#"
        GROUP      HANDLED  OLDEST  LATEST
        billing    1        [time]  [time]
        inventory  2        [time]  [time]
        "#);
        insta::assert_snapshot!(stats(&["-o", "json"]).printed(), @r#"
        {"group":"billing","handled":1,"at_least":false,"oldest":"[time]","latest":"[time]"}
        {"group":"inventory","handled":2,"at_least":false,"oldest":"[time]","latest":"[time]"}
        "#);
    });
    forgets(&database, "inventory", "30d");
    let left = stats(&["-o", "json"]).printed();
    assert_eq!(left.matches(r#""handled":1"#).count(), 2, "the other group keeps its own: {left}");
    run(format!("drop schema {schema} cascade")).await;
}

#[tokio::test]
async fn topics_of_a_group_are_planned_created_and_compared() {
    let topics = Topics::new();
    let target = ["--topic", "orders", "--group", "inventory", "--delay", "10s", "--delay", "5m"];
    let run = |command: &str, more: &[&str]| {
        topics.run(&[&["topics", command][..], &target, more].concat())
    };
    let without_source = run("plan", &[]);
    assert_eq!(without_source.code, Some(0), "{}", without_source.said);
    assert!(without_source.said.contains("Create it first"), "{}", without_source.said);
    topics.create(3).await;
    stable(&topics.prefix).bind(|| {
        insta::assert_snapshot!(run("plan", &[]).printed(), @r#"
        TOPIC                                                            STATE    DETAIL
        [prefix]-orders.inventory.dlt        missing  3 partitions, max.message.bytes=1114124, retention.ms=-1, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime
        [prefix]-orders.inventory.retry.0    missing  3 partitions, max.message.bytes=1114124, retention.ms=604800000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime
        [prefix]-orders.inventory.retry.10s  missing  3 partitions, max.message.bytes=1114124, retention.ms=604810000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime
        [prefix]-orders.inventory.retry.5m   missing  3 partitions, max.message.bytes=1114124, retention.ms=605100000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime
        "#);
        insta::assert_snapshot!(run("plan", &["-o", "json"]).printed(), @r#"
        {"topic":"[prefix]-orders.inventory.dlt","state":"missing","partitions":3,"setting":null,"has":null,"needs":null,"settings":["max.message.bytes=1114124","retention.ms=-1","retention.bytes=-1","cleanup.policy=delete","message.timestamp.type=LogAppendTime"],"detail":"3 partitions, max.message.bytes=1114124, retention.ms=-1, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime"}
        {"topic":"[prefix]-orders.inventory.retry.0","state":"missing","partitions":3,"setting":null,"has":null,"needs":null,"settings":["max.message.bytes=1114124","retention.ms=604800000","retention.bytes=-1","cleanup.policy=delete","message.timestamp.type=LogAppendTime"],"detail":"3 partitions, max.message.bytes=1114124, retention.ms=604800000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime"}
        {"topic":"[prefix]-orders.inventory.retry.10s","state":"missing","partitions":3,"setting":null,"has":null,"needs":null,"settings":["max.message.bytes=1114124","retention.ms=604810000","retention.bytes=-1","cleanup.policy=delete","message.timestamp.type=LogAppendTime"],"detail":"3 partitions, max.message.bytes=1114124, retention.ms=604810000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime"}
        {"topic":"[prefix]-orders.inventory.retry.5m","state":"missing","partitions":3,"setting":null,"has":null,"needs":null,"settings":["max.message.bytes=1114124","retention.ms=605100000","retention.bytes=-1","cleanup.policy=delete","message.timestamp.type=LogAppendTime"],"detail":"3 partitions, max.message.bytes=1114124, retention.ms=605100000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime"}
        "#);
        let missing = run("diff", &["-o", "json"]);
        assert_eq!(missing.code, Some(3));
        insta::assert_snapshot!(missing.said, @r#"4 topics are missing: `outbox topics apply` creates them"#);
        insta::assert_snapshot!(run("apply", &[]).printed(), @r#"
        TOPIC                                                            STATE    DETAIL
        [prefix]-orders.inventory.dlt        created  3 partitions, max.message.bytes=1114124, retention.ms=-1, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime
        [prefix]-orders.inventory.retry.0    created  3 partitions, max.message.bytes=1114124, retention.ms=604800000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime
        [prefix]-orders.inventory.retry.10s  created  3 partitions, max.message.bytes=1114124, retention.ms=604810000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime
        [prefix]-orders.inventory.retry.5m   created  3 partitions, max.message.bytes=1114124, retention.ms=605100000, retention.bytes=-1, cleanup.policy=delete, message.timestamp.type=LogAppendTime
        "#);
    });
    assert_eq!(run("diff", &[]).printed(), "");
    stable(&topics.prefix).bind(|| {
        insta::assert_snapshot!(run("apply", &["-o", "json"]).printed(), @r#"
        {"topic":"[prefix]-orders.inventory.dlt","state":"exists","partitions":null,"setting":null,"has":null,"needs":null,"detail":""}
        {"topic":"[prefix]-orders.inventory.retry.0","state":"exists","partitions":null,"setting":null,"has":null,"needs":null,"detail":""}
        {"topic":"[prefix]-orders.inventory.retry.10s","state":"exists","partitions":null,"setting":null,"has":null,"needs":null,"detail":""}
        {"topic":"[prefix]-orders.inventory.retry.5m","state":"exists","partitions":null,"setting":null,"has":null,"needs":null,"detail":""}
        "#);
    });

    // What it leaves out is set back to the brokers' default.
    let name = format!("{}orders.inventory.retry.10s", topics.prefix);
    let wrong = AlterConfig::new(ResourceSpecifier::Topic(&name)).set("retention.ms", "10000");
    topics.admin.alter_configs([&wrong], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let different = run("diff", &[]);
    assert_eq!(different.code, Some(3));
    stable(&topics.prefix).bind(|| {
        insta::assert_snapshot!(different.out, @r#"
        TOPIC                                                            STATE         DETAIL
        [prefix]-orders.inventory.retry.10s  loses-events  `retention.ms=10000` deletes events before they are due, which is 10000 ms after they came: set it to 604810000
        [prefix]-orders.inventory.retry.10s  narrow        `max.message.bytes=1048588` is less than what its source takes (1048588), and our headers, so that an event that is larger becomes a dead letter without its payload: set it to 1114124
        "#);
        insta::assert_snapshot!(different.said, @r#"
        2 settings are wrong, and were not changed:
          kafka-configs.sh --alter --entity-type topics --entity-name [prefix]-orders.inventory.retry.10s --add-config retention.ms=604810000
          kafka-configs.sh --alter --entity-type topics --entity-name [prefix]-orders.inventory.retry.10s --add-config max.message.bytes=1114124
        "#);
    });
    let applied = run("apply", &[]);
    assert_eq!(applied.code, Some(3), "what exists is not changed, and said");
}

#[test]
fn what_is_away_and_what_is_not_named_have_their_exit_codes() {
    let dead = "postgres://nobody@127.0.0.1:1/orders";
    assert_eq!(ran(&["inbox", "stats", "-D", dead]).code, Some(69));
    let group = ["--topic", "orders", "--group", "inventory"];
    for command in [&["consumers", "list"][..], &[&["topics", "plan"][..], &group].concat()] {
        assert_eq!(ran(command).code, Some(78), "no brokers are named");
    }
}
