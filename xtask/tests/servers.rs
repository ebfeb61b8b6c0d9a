//! The servers come back after a crash and leave nothing behind.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use xtask::servers::{
    Kafka, KafkaCluster, KafkaOptions, MySql, MySqlOptions, MySqlServer, PgOptions, PgVersion,
    Postgres,
};
use xtask::{Error, ScratchDir};

fn is_open(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn closes_soon(port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_open(port) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn survives_kills(version: PgVersion) -> Result<(), Error> {
    let dir = ScratchDir::new("survives")?;
    let mut postgres = Postgres::start(version, dir.path(), PgOptions::default())?;
    let port = postgres.port();
    assert!(postgres.answers());

    // Twice: the second time, a server that has recovered crashes.
    for _ in 0..2 {
        postgres.kill();
        assert!(!is_open(port), "no process of a killed server holds its port");
        assert!(!postgres.answers());
        postgres.restart()?;
        assert!(postgres.answers());
        assert_eq!(postgres.port(), port);
    }

    drop(postgres);
    assert!(!is_open(port));
    Ok(())
}

#[test]
fn the_oldest_tested_postgres_survives_kills_and_ends_when_dropped() -> Result<(), Error> {
    survives_kills(PgVersion::V15)
}

#[test]
fn the_newest_postgres_survives_kills_and_ends_when_dropped() -> Result<(), Error> {
    survives_kills(PgVersion::V18)
}

fn keeps_commits(server: MySqlServer, version: &str, has_binlog: bool) -> Result<(), Error> {
    const KEPT: &str = "select group_concat(number order by number) from kept";

    let dir = ScratchDir::new("survives")?;
    let start = || MySql::start(dir.path(), MySqlOptions { server, ..MySqlOptions::default() });
    let mut mysql = start()?;
    let port = mysql.port();
    let is = mysql.query("select version()")?;
    assert!(is.starts_with(version), "{is}");
    assert_eq!(mysql.query("select @@character_set_database")?, "utf8mb4");
    assert_eq!(mysql.query("select @@log_bin")?, u8::from(has_binlog).to_string());
    mysql.query("create table kept (number int primary key)")?;

    // Twice: the second time, a server that has recovered crashes.
    for (number, kept) in [(1, "1"), (2, "1,2")] {
        mysql.query(&format!("insert into kept values ({number})"))?;
        mysql.kill();
        assert!(!is_open(port), "no process of a killed server holds its port");
        assert!(!mysql.answers());
        mysql.restart()?;
        assert_eq!(mysql.query(KEPT)?, kept);
        assert_eq!(mysql.port(), port);
    }
    mysql.stop();
    assert!(!is_open(port));

    let again = start()?;
    let port = again.port();
    assert_eq!(again.query(KEPT)?, "1,2");
    drop(again);
    assert!(!is_open(port));
    Ok(())
}

#[test]
fn mariadb_10_11_keeps_commits_when_it_is_killed_and_when_it_is_stopped() -> Result<(), Error> {
    keeps_commits(MySqlServer::MariaDb10_11, "10.11.", false)
}

#[test]
fn mariadb_11_4_keeps_commits_when_it_is_killed_and_when_it_is_stopped() -> Result<(), Error> {
    keeps_commits(MySqlServer::MariaDb11_4, "11.4.", false)
}

#[test]
fn mysql_8_0_keeps_commits_when_it_is_killed_and_when_it_is_stopped() -> Result<(), Error> {
    keeps_commits(MySqlServer::MySql8_0, "8.0.", true)
}

/// As root, the server runs as a user who cannot enter such a directory.
#[test]
fn mariadb_runs_with_settings_of_a_test_in_a_directory_closed_to_others() -> Result<(), Error> {
    let dir = ScratchDir::new("closed")?;
    let closed = dir.path().join("closed");
    fs::DirBuilder::new().mode(0o700).create(&closed).unwrap();
    let settings = vec!["innodb-lock-wait-timeout=7".to_owned(), "sync-binlog=3".to_owned()];
    let options = MySqlOptions { settings, ..MySqlOptions::default() };

    let mut mysql = MySql::start(&closed.join("below"), options)?;

    let set = mysql.query("select concat(@@innodb_lock_wait_timeout, ' ', @@sync_binlog)")?;
    assert_eq!(set, "7 3");
    let refused = mysql.query("select nothing").unwrap_err().to_string();
    assert!(refused.contains("refuses `select nothing`: error 1054: "), "{refused}");
    mysql.suspend();
    assert!(!mysql.answers(), "it is frozen");
    mysql.kill();
    mysql.restart()?;
    assert!(mysql.answers());
    assert_eq!(fs::metadata(&closed).unwrap().permissions().mode() & 0o777, 0o700);
    Ok(())
}

#[test]
fn kafka_survives_kills_and_ends_when_dropped() -> Result<(), Error> {
    let dir = ScratchDir::new("survives")?;
    let mut kafka = Kafka::start(dir.path(), KafkaOptions::default())?;
    let port = kafka.port();
    assert!(kafka.answers());

    for _ in 0..2 {
        kafka.kill();
        assert!(!is_open(port));
        assert!(!kafka.answers());
        kafka.restart()?;
        assert!(kafka.answers());
        assert_eq!(kafka.port(), port);
    }

    drop(kafka);
    assert!(!is_open(port));
    Ok(())
}

/// Asks until the answer is `Some`.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within 90 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_goes_on_without_the_node_that_coordinates_transactions() -> Result<(), Error> {
    const ID: &str = "orders-0";
    const TOPIC: &str = "__transaction_state";
    let dir = ScratchDir::new("cluster")?;
    let options = KafkaOptions { proxied: true, ..KafkaOptions::default() };
    let mut cluster = KafkaCluster::start(dir.path(), options)?;
    let mut ports: Vec<u16> = cluster.nodes().iter().map(Kafka::port).collect();
    for node in cluster.nodes() {
        ports.push(node.proxied()?.server);
        assert!(is_open(node.proxied()?.server));
        assert!(!is_open(node.proxied()?.proxy), "it is free for a proxy");
    }

    let first = eventually("there is a coordinator", || cluster.coordinator(ID).unwrap());
    let partition = |cluster: &KafkaCluster, number| cluster.partition(TOPIC, number).unwrap();
    let led = (0..).map_while(|number| partition(&cluster, number)).collect::<Vec<_>>();
    let of_first = led.iter().position(|partition| partition.leader == Some(first));
    let number = i32::try_from(of_first.expect("it leads its part of the topic")).unwrap();
    assert!(led.iter().all(|partition| partition.replicas.len() == 3), "{led:?}");
    eventually("all copies are complete", || cluster.is_in_sync().unwrap().then_some(()));

    cluster.kill(first);
    let second = eventually("there is another coordinator", || {
        cluster.coordinator(ID).unwrap().filter(|node| *node != first)
    });
    let taken = partition(&cluster, number).unwrap();
    assert_eq!(taken.in_sync.len(), 2, "{taken:?}");
    assert!(cluster.nodes()[second].answers());
    assert!(!cluster.is_in_sync()?);

    cluster.restart(first)?;
    eventually("all copies are complete again", || cluster.is_in_sync().unwrap().then_some(()));
    drop(cluster);
    assert!(!ports.into_iter().any(is_open));
    Ok(())
}

#[test]
fn stopped_servers_are_used_again_with_their_data() -> Result<(), Error> {
    let dir = ScratchDir::new("reused")?;
    let postgres = Postgres::start(PgVersion::V15, dir.path(), PgOptions::default())?;
    let port = postgres.port();
    postgres.stop();
    assert!(!is_open(port));

    let again = Postgres::start(
        PgVersion::V15,
        dir.path(),
        PgOptions { fsync: true, ..PgOptions::default() },
    )?;

    assert!(again.answers());
    Ok(())
}

#[test]
fn the_clock_of_a_server_is_set_while_it_runs() -> Result<(), Error> {
    let dir = ScratchDir::new("clock")?;
    let options = PgOptions { clock: true, ..PgOptions::default() };
    let mut postgres = Postgres::start(PgVersion::V18, dir.path(), options)?;
    postgres.set_clock(-3600)?;
    assert!(postgres.answers());
    postgres.restart()?;
    let log = fs::read_to_string(postgres.log()).unwrap();
    // The log's lines begin with the time.
    let hours: Vec<&str> = log.lines().filter_map(|line| line.get(..13)).collect();
    assert!(hours.last() < hours.first(), "an hour back: {log}");
    Ok(())
}

/// As root, the server runs as a user who cannot enter such a directory.
#[test]
fn a_directory_closed_to_others_serves_and_stays_closed() -> Result<(), Error> {
    let dir = ScratchDir::new("closed")?;
    let closed = dir.path().join("closed");
    fs::DirBuilder::new().mode(0o700).create(&closed).unwrap();

    let mut postgres =
        Postgres::start(PgVersion::V15, &closed.join("below"), PgOptions::default())?;
    postgres.kill();
    postgres.restart()?;

    assert!(postgres.answers());
    assert_eq!(fs::metadata(&closed).unwrap().permissions().mode() & 0o777, 0o700);
    Ok(())
}

/// The parent is this test run in a second process.
#[test]
fn a_server_dies_with_a_parent_that_is_killed() -> Result<(), Error> {
    const ROLE: &str = "XTASK_TEST_PARENT";
    const ANNOUNCE: &str = "listening on ";

    if let Some(dir) = env::var_os(ROLE) {
        let postgres = Postgres::start(PgVersion::V15, dir.as_ref(), PgOptions::default())?;
        // The harness has written the start of this line.
        println!("\n{ANNOUNCE}{}", postgres.port());
        loop {
            std::thread::park();
        }
    }
    let dir = ScratchDir::new("orphan")?;
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_server_dies_with_a_parent_that_is_killed", "--nocapture"])
        .env(ROLE, dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(parent.stdout.take().unwrap());
    let port = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix(ANNOUNCE)?.parse().ok())
        .unwrap();
    assert!(is_open(port));

    parent.kill().unwrap();
    parent.wait().unwrap();

    assert!(closes_soon(port));
    Ok(())
}
