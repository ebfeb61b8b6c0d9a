//! `outbox relay run --otlp`: the spans of the real command, with real servers and a collector of
//! ours.
#![cfg(feature = "otlp")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::mpsc::{self, Receiver};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use outbox::{DomainEvent, Outbox};
use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgPool, Postgres};
use uuid::Uuid;

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "traced", name = "noted", keyless)]
struct Noted {}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by `cargo xtask test`"))
}

/// What a collector is posted: its path, a header of the request, and the spans.
struct Posted {
    path: String,
    token: Option<String>,
    spans: ExportTraceServiceRequest,
}

/// Answers each request with success, and passes on what it was posted.
fn collector() -> (String, Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some(posted) = request(&mut stream) {
                    let _ = tell.send(posted);
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    stream.get_mut().write_all(answer).unwrap();
                }
            });
        }
    });
    (url, told)
}

/// `None` at the end of the connection.
fn request(stream: &mut BufReader<TcpStream>) -> Option<Posted> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let mut headers = head.iter().filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let mut body = vec![0; header("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(Posted {
        path: head[0].split(' ').nth(1)?.to_owned(),
        token: header("x-token").map(str::to_owned),
        spans: ExportTraceServiceRequest::decode(&*body).unwrap(),
    })
}

struct Scene {
    outbox: Outbox<Postgres>,
    schema: String,
}

impl Scene {
    /// A schema and a topic of its own, and an event that was emitted in the trace.
    async fn with_a_traced_event() -> Self {
        let url: PgConnectOptions = server("DATABASE_URL").parse().unwrap();
        let pool = PgPool::connect_with(url).await.unwrap();
        let schema = format!("otlp_{}", Uuid::now_v7().simple());
        let create = sqlx::AssertSqlSafe(format!("create schema {schema}"));
        sqlx::query(create).execute(&pool).await.unwrap();
        let outbox = Outbox::builder(pool).schema(&schema).build().unwrap();
        outbox.migrate().await.unwrap();
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", server("KAFKA_BROKERS")).create().unwrap();
        let topic = format!("{schema}-traced");
        let topic = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        admin.create_topics([&topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        let mut tx = outbox.begin().await.unwrap();
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        tx.set_trace_context(|name| (name == "traceparent").then_some(&*parent));
        tx.emit(Noted {}).unwrap();
        tx.commit().await.unwrap();
        Self { outbox, schema }
    }

    /// Publishes what there is by the command.
    fn relay(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_outbox"))
            .args(["relay", "run", "--once", "-o", "json", "--schema", &self.schema])
            .args(["--topic-prefix", &format!("{}-", self.schema)])
            .args(arguments)
            .env_clear()
            .env("OUTBOX_DATABASE_URL", server("DATABASE_URL"))
            .env("OUTBOX_BROKERS", server("KAFKA_BROKERS"))
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    async fn waits(&self) -> u64 {
        self.outbox.status().await.unwrap().backlog
    }
}

fn text<'a>(attributes: &'a [KeyValue], name: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{name} is {other:?} in {attributes:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_send_of_an_event_in_the_trace_of_its_emit() {
    let scene = Scene::with_a_traced_event().await;
    let (url, posted) = collector();
    let variables = [("OTEL_EXPORTER_OTLP_HEADERS", "x-token=a%20b")];
    // The log's filter is not the spans'.
    let output = scene.relay(&["--otlp", &url, "-qq"], &variables);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"", "{output:?}");
    let posted = posted.try_iter().next().expect("spans are sent before the command ends");
    assert_eq!((&*posted.path, posted.token.as_deref()), ("/v1/traces", Some("a b")));
    let of_resource = &posted.spans.resource_spans[0];
    let resource = &of_resource.resource.as_ref().unwrap().attributes;
    assert_eq!(text(resource, "service.name"), "outbox-relay");
    let spans = &of_resource.scope_spans[0].spans;
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(spans[0].name, format!("send {}-traced", scene.schema));
    let trace: String = spans[0].trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(trace, TRACE);
    assert_eq!(text(&spans[0].attributes, "messaging.system"), "kafka");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sampler_and_the_address_are_those_of_the_variables() {
    let scene = Scene::with_a_traced_event().await;
    let (url, posted) = collector();
    let address = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url);
    let sampler = ("OTEL_TRACES_SAMPLER", "always_off");
    let output = scene.relay(&["--otlp"], &[address, sampler]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(posted.try_iter().count(), 0);

    let scene = Scene::with_a_traced_event().await;
    let named = ("OTEL_SERVICE_NAME", "orders-relay");
    let output = scene.relay(&[], &[("OUTBOX_RELAY_OTLP", "true"), address, named]);
    assert!(output.status.success(), "{output:?}");
    let posted = posted.try_iter().next().expect("spans are sent");
    let resource = posted.spans.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(text(&resource.attributes, "service.name"), "orders-relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_collector_a_relay_publishes_and_says_once_that_spans_are_lost() {
    // Nothing listens there any more.
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // It takes connections and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for (address, cause) in [(away, "refused"), (mute.local_addr().unwrap(), "in time")] {
        let scene = Scene::with_a_traced_event().await;
        let variables = [("OTEL_EXPORTER_OTLP_TIMEOUT", "100"), ("OUTBOX_LOG_FORMAT", "json")];
        let output = scene.relay(&["--otlp", &format!("http://{address}")], &variables);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"{\"published\":1}\n", "{output:?}");
        assert_eq!(scene.waits().await, 0);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches("the collector does not take spans").count(), 1, "{said}");
        assert_eq!(said.matches("\"lost\":1").count(), 1, "{said}");
        assert!(said.contains(cause), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_is_refused_before_anything_is_published() {
    let scene = Scene::with_a_traced_event().await;
    let output = scene.relay(&["--otlp", "http://me:hunter2@collector:4318"], &[]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"), "{output:?}");
    assert_eq!(scene.waits().await, 1);
}
