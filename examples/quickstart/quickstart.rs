//! The whole of outbox in one terminal: `cargo run --example quickstart`.
//!
//! A service takes orders. It is killed before it has published them, and again after that but
//! before it has saved its progress. An inventory service still counts each order once. Nothing is
//! simulated: the service is a process of its own, which this one starts, kills and starts again.
//!
//! It needs nothing but this repository: a SQLite file, and the Kafka broker that is built into
//! librdkafka. With `DATABASE_URL` (Postgres, MySQL) and `KAFKA_BROKERS` set, it runs on those.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::mocking::MockCluster;

mod event;

/// The same service on three databases, from one file.
mod on_sqlite {
    use sqlx::Sqlite as Db;
    const SQL: super::Statements = super::POSTGRES_AND_SQLITE;
    include!("service.rs");
}
mod on_postgres {
    use sqlx::Postgres as Db;
    const SQL: super::Statements = super::POSTGRES_AND_SQLITE;
    include!("service.rs");
}
mod on_mysql {
    use sqlx::MySql as Db;
    const SQL: super::Statements = super::MYSQL;
    include!("service.rs");
}

/// The statements of the business.
struct Statements {
    /// Counts an order of a customer.
    count: &'static str,
    /// The number of the customer's last order.
    number: &'static str,
    order: &'static str,
    reserve: &'static str,
}

const POSTGRES_AND_SQLITE: Statements = Statements {
    count: "insert into quickstart_customer (name, orders) values ($1, 1)
            on conflict (name) do update set orders = quickstart_customer.orders + 1",
    number: "select orders from quickstart_customer where name = $1",
    order: "insert into quickstart_order (customer, number, item) values ($1, $2, $3)",
    reserve: "insert into quickstart_reserved (customer, number) values ($1, $2)",
};

const MYSQL: Statements = Statements {
    count: "insert into quickstart_customer (name, orders) values (?, 1) on duplicate key update orders = orders + 1",
    number: "select orders from quickstart_customer where name = ?",
    order: "insert into quickstart_order (customer, number, item) values (?, ?, ?)",
    reserve: "insert into quickstart_reserved (customer, number) values (?, ?)",
};

type Failure = Box<dyn Error + Send + Sync>;

/// What a start of the service does.
const TAKE_ORDERS: &str = "take-orders";
const DIE_AFTER_PUBLISHING: &str = "die-after-publishing";
const GO_ON: &str = "go-on";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    if let (Some(what), Some(database), Some(brokers)) =
        (arguments.next(), arguments.next(), arguments.next())
    {
        return match &*database {
            url if url.starts_with("postgres") => on_postgres::service(&what, url, &brokers).await,
            url if url.starts_with("mysql") => on_mysql::service(&what, url, &brokers).await,
            url => on_sqlite::service(&what, url, &brokers).await,
        };
    }

    let directory = tempfile::tempdir()?;
    let database = std::env::var("DATABASE_URL").unwrap_or_else(|_| {
        format!("sqlite://{}?mode=rwc", directory.path().join("quickstart.db").display())
    });
    let in_process; // lives as long as this function
    let brokers = match std::env::var("KAFKA_BROKERS") {
        Ok(brokers) => brokers,
        Err(_) => {
            in_process = MockCluster::new(1)?;
            // A real broker is asked to create them; this one cannot.
            for of in ["", ".quickstart-inventory.retry.0", ".quickstart-inventory.dlt"] {
                in_process.create_topic(&format!("quickstart-orders{of}"), 4, 1)?;
            }
            in_process.bootstrap_servers()
        }
    };
    println!("database: {database}\nKafka:    {brokers}\n");
    match &*database {
        url if url.starts_with("postgres") => on_postgres::story(url, &brokers).await,
        url if url.starts_with("mysql") => on_mysql::story(url, &brokers).await,
        url => on_sqlite::story(url, &brokers).await,
    }
}

/// The service, as a process of its own.
struct ServiceProcess {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl ServiceProcess {
    fn start(what: &str, database: &str, brokers: &str) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([what, database, brokers])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("the service has no output")?;
        Ok(Self { child, lines: BufReader::new(output).lines() })
    }

    /// Prints what the process prints, up to the line `until` or its end.
    fn listen(&mut self, until: &str) -> Result<(), Failure> {
        for line in self.lines.by_ref() {
            let line = line?;
            if line == until {
                break;
            }
            println!("   service    {line}");
        }
        Ok(())
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
