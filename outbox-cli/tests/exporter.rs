//! `outbox exporter`, scraped as Prometheus does it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    /// An exporter of an SQLite file, on a free port, once it listens.
    fn start(database: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_outbox"))
            .args(["exporter", "--http", "127.0.0.1:0", "--every", "50ms", "--log-format", "json"])
            .args(["--database-url", database])
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        // Its log is read to the end, so that it never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(address) =
                    line["fields"]["address"].as_str().or(line["address"].as_str())
                {
                    let _ = tell.send(address.to_owned());
                }
            }
        });
        let address = told.recv().expect("it ended before it listened");
        Self { child, address }
    }

    /// Status and body of an answer.
    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: outbox\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Scrapes until the metrics have this line.
    fn until_reported(&self, line: &str) -> String {
        loop {
            let (_, metrics) = self.get("/metrics");
            if metrics.lines().any(|reported| reported == line) {
                return metrics;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_exporter_reports_what_waits_without_a_relay_and_that_its_database_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.db");
    let url = format!("sqlite:{}?mode=rwc", file.display());
    let exporter = Exporter::start(&format!("sqlite:{}", file.display()));
    assert_eq!(exporter.get("/livez"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    assert_eq!(exporter.get("/readyz").0, "HTTP/1.1 200 OK");
    assert_eq!(exporter.get("/other").0, "HTTP/1.1 404 Not Found");
    exporter.until_reported("outbox_database_up{outbox=\"outbox\"} 0");

    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    outbox::Outbox::new(pool).migrate().await.unwrap();
    let metrics = exporter.until_reported("outbox_database_up{outbox=\"outbox\"} 1");
    for line in [
        "# HELP outbox_lanes_owned Lanes that a living relay holds, of 16. Nothing publishes the events of the others.",
        "# TYPE outbox_lanes_owned gauge",
        "outbox_lanes_owned{outbox=\"outbox\"} 0",
        "outbox_backlog{outbox=\"outbox\"} 0",
        "outbox_oldest_pending_seconds{outbox=\"outbox\"} 0",
        "outbox_parked{outbox=\"outbox\"} 0",
        concat!("outbox_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(metrics.lines().any(|reported| reported == line), "{line}\n{metrics}");
    }
}
