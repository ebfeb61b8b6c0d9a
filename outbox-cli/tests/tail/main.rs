//! `outbox tail` as a process: on SQLite, on a real Postgres and on a real Kafka.

mod kafka;
mod support;

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;
use uuid::Uuid;

use support::*;

#[tokio::test]
async fn a_line_of_json_has_these_fields_and_a_table_these_columns() {
    let file = File::new().await;
    let json = file.tail(&["-o", "json", "--payload", "json", "-n", "2"]);
    let table = file.tail(&["-n", "2"]);
    let wide = file.tail(&["-n", "2", "-o", "wide", "--payload", "hex"]);
    emit(&file.outbox, placed("ann")).await;
    emit_bytes(&file.outbox, None).await;
    let settings = stable();
    settings.bind(|| {
        insta::assert_snapshot!(json.line(), @r#"{"from":"outbox","occurred_at":"[time]","topic":"orders","seq":1,"lane":1,"partition":null,"offset":null,"key":"ann","key_hex":null,"name":"order.placed","version":2,"id":"[----------------id----------------]","payload_bytes":37,"payload":{"customer":"ann","email":"ann@shop"},"payload_hex":null,"payload_hidden":null}"#);
        insta::assert_snapshot!(json.line(), @r#"{"from":"outbox","occurred_at":"[time]","topic":"orders","seq":2,"lane":8,"partition":null,"offset":null,"key":"raw","key_hex":null,"name":"order.placed","version":2,"id":"[----------------id----------------]","payload_bytes":null,"payload":null,"payload_hex":null,"payload_hidden":"tombstone"}"#);
        insta::assert_snapshot!([table.line(), table.line(), table.line()].join("\n"), @r#"
        TIME                  FROM    PLACE  TOPIC   KEY  NAME          ID
        [-------time-------]  outbox  1      orders  ann  order.placed  [----------------id----------------]
        [-------time-------]  outbox  2      orders  raw  order.placed  [----------------id----------------]
        "#);
        insta::assert_snapshot!([wide.line(), wide.line(), wide.line()].join("\n"), @r#"
        TIME                  FROM    PLACE  TOPIC   KEY  NAME          ID                                    VERSION  BYTES  PAYLOAD
        [-------time-------]  outbox  1      orders  ann  order.placed  [----------------id----------------]  2        37     7b22637573746f6d6572223a22616e6e222c22656d61696c223a22616e6e4073686f70227d
        [-------time-------]  outbox  2      orders  raw  order.placed  [----------------id----------------]  2        -      (tombstone)
        "#);
    });
    for tail in [json, table, wide] {
        assert_eq!(tail.ended().code(), Some(0), "after `-n` events it ends");
    }
}

#[tokio::test]
async fn only_what_is_asked_for_is_shown_and_the_past_comes_first() {
    let file = File::new().await;
    let old = emit(&file.outbox, placed("ann")).await;
    let new_only = file.tail(&["-o", "json"]);
    let since = file.tail(&["-o", "json", "--since", "1h", "--key", "ann"]);
    let others =
        file.tail(&["-o", "json", "--topic", "invoices", "--topic", "orders", "--key", "bob"]);
    let none = ["--name", "order.paid", "--topic", "invoices"].map(|word| word);
    let none = [file.tail(&none[..2]), file.tail(&none[2..])];
    let bob = emit(&file.outbox, placed("bob")).await;
    let ann = emit(&file.outbox, placed("ann")).await;
    let id = |line: Value| line["id"].as_str().unwrap().parse::<Uuid>().unwrap();
    assert_eq!([id(new_only.json()), id(new_only.json())], [bob, ann]);
    assert_eq!([id(since.json()), id(since.json())], [old, ann]);
    assert_eq!(id(others.json()), bob);
    for tail in none {
        tail.terminate();
        assert!(tail.lines.recv_timeout(BOUND).is_err(), "it shows what was not asked for");
    }
}

#[tokio::test]
async fn what_commits_late_is_shown_once_and_no_snapshot_is_kept() {
    let (pool, outbox, schema) = in_postgres().await;
    let url = server("DATABASE_URL");
    let tail = Tail::start(&["-D", &url, "--schema", &schema, "-o", "json"]);
    tail.until_said("following the outbox");
    let mut shown = Vec::new();
    let mut expected = Vec::new();
    // Two numbers are drawn and not committed, while later ones are, over several looks.
    let mut late = [pool.begin().await.unwrap(), pool.begin().await.unwrap()];
    let mut late_ids = Vec::new();
    for tx in &mut late {
        let mut attached = outbox.attach(tx).await.unwrap();
        late_ids.push(attached.emit(placed("late")).unwrap());
        attached.commit().await.unwrap();
    }
    for _ in 0..3 {
        expected.push(emit(&outbox, placed("early")).await);
        shown.push(tail.json()["id"].as_str().unwrap().parse::<Uuid>().unwrap());
    }
    let [first, second] = late;
    for (tx, id) in [(second, late_ids[1]), (first, late_ids[0])] {
        tx.commit().await.unwrap();
        expected.push(id);
        shown.push(tail.json()["id"].as_str().unwrap().parse().unwrap());
    }
    expected.push(emit(&outbox, placed("last")).await);
    shown.push(tail.json()["id"].as_str().unwrap().parse().unwrap());
    assert_eq!(shown, expected, "in the order of their commits, each once");

    // Whoever kept a snapshot or a transaction open would be seen here for ever.
    let now: String =
        sqlx::query_scalar("select pg_current_xact_id()::text").fetch_one(&pool).await.unwrap();
    let old = "\
select count(*) from pg_stat_activity
where application_name = 'outbox' and datname = current_database() and least(backend_xmin::text::bigint, backend_xid::text::bigint) <= $1::bigint";
    let wait = async {
        while sqlx::query_scalar::<_, i64>(old).bind(&now).fetch_one(&pool).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.expect("a snapshot is kept open");
    tail.terminate();
    assert_eq!(tail.ended().code(), Some(0));
    run(&pool, &format!("drop schema {schema} cascade")).await;
}

#[tokio::test]
async fn more_than_is_shown_is_counted_and_what_comes_then_is_shown() {
    let (pool, outbox, schema) = in_postgres().await;
    let file = File::new().await;
    let url = server("DATABASE_URL");
    let tails = [
        Tail::start(&["-D", &url, "--schema", &schema, "-o", "json"]),
        Tail::start(&["-D", &file.url, "-o", "json"]),
    ];
    tails.iter().for_each(|tail| drop(tail.until_said("following the outbox")));
    run(&pool, &format!(
        "insert into {schema}.outbox_event (lane, id, topic, name, version, content_type, headers, occurred_at)
         select n % 16, gen_random_uuid(), 'orders', 'order.placed', 1, 'x', '{{}}', now() from generate_series(1, 12345) n"
    )).await;
    sqlx::query(
        "with recursive n (n) as (select 1 union all select n + 1 from n where n < 12345)
         insert into outbox_event (lane, id, topic, name, version, content_type, headers, occurred_at)
         select n % 16, randomblob(16), 'orders', 'order.placed', 1, 'x', '{}', 0 from n",
    )
    .execute(file.outbox.pool())
    .await
    .unwrap();
    for tail in &tails {
        for seq in 1..=10_000 {
            assert_eq!(tail.json()["seq"], seq);
        }
        let before = tail.until_said("2345 events not shown");
        assert_eq!(before, Vec::<String>::new());
    }
    let last = [emit(&outbox, placed("ann")).await, emit(&file.outbox, placed("ann")).await];
    for (tail, last) in tails.iter().zip(last) {
        assert_eq!(tail.json()["id"], last.to_string());
    }
    run(&pool, &format!("drop schema {schema} cascade")).await;
}

#[tokio::test]
async fn nothing_secret_and_no_control_character_reaches_a_terminal() {
    let file = File::new().await;
    let redacted = ["--payload", "json", "--redact", "/email", "--redact", "/a/*"];
    let tails = [
        file.tail(&[&redacted[..], &["-o", "json"]].concat()),
        file.tail(&redacted),
        file.tail(&[&redacted[..], &["-o", "yaml"]].concat()),
    ];
    emit(&file.outbox, placed("ann\x1b[31m\u{9b}31m\r")).await;
    emit_bytes(&file.outbox, Some("{\"a\":[\"ann@shop\"],\"b\":\"\u{9b}\u{7f}\"}".as_bytes()))
        .await;
    emit_bytes(&file.outbox, Some(b"ann@shop \x1b[31m")).await;
    let last = emit(&file.outbox, placed("last")).await.to_string();
    for tail in tails {
        let mut all = String::new();
        while !all.contains(&last) || !all.contains("last") {
            all.push_str(&tail.line());
            all.push('\n');
        }
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!all.contains(control), "{all:?}");
        assert!(!all.contains("shop") && all.contains("[redacted]"), "{all}");
        assert!(all.contains("not JSON"), "{all}");
    }
}

#[tokio::test]
async fn it_ends_with_success_when_its_reader_does() {
    let file = File::new().await;
    let mut child =
        command(&["-D", &file.url]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said = lines(child.stderr.take().unwrap());
    while !said.recv_timeout(BOUND).unwrap().contains("following the outbox") {}
    drop(child.stdout.take());
    emit(&file.outbox, placed("ann")).await;
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(said.iter().collect::<Vec<_>>(), Vec::<String>::new());
}

#[tokio::test]
async fn a_reader_that_does_not_read_does_not_keep_it_from_ending() {
    let file = File::new().await;
    let mut child = command(&["-D", &file.url, "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = lines(child.stderr.take().unwrap());
    while !said.recv_timeout(BOUND).unwrap().contains("following the outbox") {}
    // More than a pipe holds.
    for _ in 0..40 {
        let mut tx = file.outbox.begin().await.unwrap();
        tx.emit_all((0..50).map(|_| placed(&"a".repeat(40)))).unwrap();
        tx.commit().await.unwrap();
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_followed_is_refused_before_anything_is_done() {
    for (arguments, words) in [
        (&["--from", "kafka"][..], "--topic"),
        (&["--redact", "/email"], "--payload json"),
        (&["--payload", "hex", "--redact", "/email"], "--payload json"),
        (&["--payload", "json", "--redact", "email"], "slash"),
        (&["-n", "0"], "0"),
    ] {
        let ran = command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.code() == Some(2) && said.contains(words), "{arguments:?}: {said}");
    }
    let directory = tempfile::tempdir().unwrap();
    let empty = format!("sqlite:{}?mode=rwc", directory.path().join("empty.db").display());
    assert_eq!(command(&["-D", &empty]).output().unwrap().status.code(), Some(78));
}

/// Forwards to the Postgres of the tests, while it is open.
struct Way {
    listener: TcpListener,
    through: Vec<TcpStream>,
}

impl Way {
    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Lets the next connection through.
    fn open(&mut self, to: &str) {
        let (near, _) = self.listener.accept().unwrap();
        let far = TcpStream::connect(to).unwrap();
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
        self.through.extend([near, far]);
    }

    fn cut(&mut self) {
        self.through.drain(..).for_each(|way| drop(way.shutdown(std::net::Shutdown::Both)));
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_told_once_and_what_came_meanwhile_is_shown() {
    let (pool, outbox, schema) = in_postgres().await;
    let options = pool.connect_options();
    let to = format!("{}:{}", options.get_host(), options.get_port());
    let mut way = Way { listener: TcpListener::bind("127.0.0.1:0").unwrap(), through: Vec::new() };
    let url = server("DATABASE_URL").replace(&to, &format!("127.0.0.1:{}", way.port()));
    assert!(url.contains(&way.port().to_string()), "{url} leads through the test");
    let tail =
        Tail::start(&["-D", &url, "--schema", &schema, "-o", "json", "--statement-timeout", "2s"]);
    let asked = tokio::task::spawn_blocking(move || {
        // The first is to see whether the database answers.
        way.open(&to);
        way.open(&to);
        tail.until_said("following the outbox");
        way.cut();
        (way, to, tail)
    });
    let (mut way, to, tail) = asked.await.unwrap();
    let meanwhile = [emit(&outbox, placed("ann")).await, emit(&outbox, placed("bob")).await];
    tail.until_said("waited for");
    // Attempts that were given up meanwhile come first.
    std::thread::spawn(move || {
        loop {
            way.open(&to);
        }
    });
    let said = tail.until_said("can be read again");
    assert_eq!(said, Vec::<String>::new(), "it is told once");
    for id in meanwhile {
        assert_eq!(tail.json()["id"], id.to_string());
    }
    run(&pool, &format!("drop schema {schema} cascade")).await;
}

#[tokio::test]
async fn another_database_in_its_place_is_told_and_followed() {
    let file = File::new().await;
    emit(&file.outbox, placed("ann")).await;
    let tail = file.tail(&["-o", "json"]);
    for statement in ["delete from outbox_event", "update sqlite_sequence set seq = 0"] {
        sqlx::query(statement).execute(file.outbox.pool()).await.unwrap();
    }
    tail.until_said("another one answers");
    let id = emit(&file.outbox, placed("bob")).await;
    assert_eq!(tail.json()["id"], id.to_string());
}
