//! `outbox top` in a real terminal, on real servers.

mod gate;
mod picture;
mod scene;
mod terminal;

use std::path::Path;
use std::process::Command;

use gate::Gate;
use outbox::admin::PauseScope;
use scene::{Scene, new_schema, server};
use sqlx::postgres::PgConnectOptions;
use terminal::Terminal;

/// The number after this word.
fn number(shown: &str, word: &str) -> Option<u64> {
    let rest = shown.split(&format!("{word} ")).nth(1)?.trim_start_matches('~');
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The screens are kept as a picture where this variable says, by a path from the repository's root:
/// that of the README.
const PICTURE: &str = "OUTBOX_TOP_PICTURE";

fn keep_picture(screens: &[vt100::Screen]) {
    let svg = picture::svg("outbox top: it runs, is paused, and is resumed", screens);
    assert!(svg.contains(">inventory<") && svg.contains(">prices<"), "{svg}");
    assert!(!svg.contains(|c: char| c.is_control() && c != '\n'), "{svg}");
    if let Some(path) = std::env::var_os(PICTURE) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::fs::write(root.join(path), svg).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_relays_and_lanes_pauses_and_resumes_and_releases() {
    let scene = Scene::new().await;
    let (database, brokers) = (server("DATABASE_URL"), server("KAFKA_BROKERS"));
    let mut top = Terminal::open(
        (18, 118),
        &["top", "--every", "250ms", "--schema", &scene.schema, "--topic-prefix", &scene.prefix],
        &[("DATABASE_URL", &database), ("KAFKA_BROKERS", &brokers), ("USER", "ann")],
        std::env::temp_dir(),
    );
    shows_what_there_is(&mut top, &scene);
    let mut screens = vec![top.screen().clone()];
    pauses_and_resumes(&mut top, &scene, &mut screens).await;
    keep_picture(&screens);

    top.press("ry");
    top.shows("1 parked event is tried again");
    top.press("/payments\r");
    top.until("no group of orders", |shown| !shown.lines().any(is_group));
    top.resize(10, 40);
    top.until("the keys", |shown| shown.lines().last().is_some_and(|last| last.contains("q quit")));
    top.press("\u{1b}");
    top.until("no filter", |shown| !shown.contains("topics with"));
    top.press("q");
    let (code, shown) = top.ended();
    assert_eq!((code, &*shown), (0, ""));
    scene.end().await;
}

fn is_group(line: &str) -> bool {
    line.starts_with("inventory") && line.contains("orders")
}

fn shows_what_there_is(top: &mut Terminal, scene: &Scene) {
    // Each relay has a line and some of the lanes, and no lane is without one.
    let relays: Vec<String> =
        scene.relays.iter().map(|relay| format!(":{} ", relay.pid())).collect();
    top.until("two relays that share the lanes", |shown| {
        let lines =
            relays.iter().filter_map(|relay| shown.lines().find(|line| line.contains(relay)));
        let sharing = lines.filter(|line| line.contains("alive") && line.contains('·')).count();
        sharing == 2 && !shown.contains("no relay")
    });
    top.until("the parked event", |shown| number(shown, "parked") == Some(1));
    let is_parked = |line: &str| line.starts_with("orders ") && line.contains(" 1 ");
    top.until("the topic of the parked event", |shown| shown.lines().any(is_parked));
    top.until("the dead letter", |shown| number(shown, "dead letters") == Some(1));
    top.until("a rate", |shown| number(shown, "in") > Some(0) && number(shown, "out") > Some(0));
    top.until("the group", |shown| shown.lines().any(is_group));
    assert!(!top.text().contains("mail"), "a group of another deployment:\n{}", top.text());
}

async fn pauses_and_resumes(top: &mut Terminal, scene: &Scene, screens: &mut Vec<vt100::Screen>) {
    // A reason, and then a confirmation.
    top.press("pbad prices since 10:40\r");
    top.shows("Pause everything (y: yes");
    screens.push(top.screen().clone());
    assert_eq!(scene.outbox.pauses().await.unwrap(), []);
    top.press("y");
    top.shows("everything is paused by ann: bad prices since 10:40");
    let pauses = scene.outbox.pauses().await.unwrap();
    let pause = (&pauses[0].scope, &*pauses[0].reason);
    assert_eq!(pause, (&PauseScope::All, "bad prices since 10:40"));
    top.until("what waits", |shown| number(shown, "pending") > Some(150));
    screens.push(top.screen().clone());

    top.press("py");
    top.until("the end of the pause", |shown| !shown.contains("paused by ann"));
    assert_eq!(scene.outbox.pauses().await.unwrap(), []);
    top.until("what goes out", |shown| number(shown, "pending") < Some(100));
    screens.push(top.screen().clone());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_while_the_database_is_away() {
    let (_outbox, schema) = new_schema().await;
    let url = server("DATABASE_URL");
    let options: PgConnectOptions = url.parse().unwrap();
    let address = format!("{}:{}", options.get_host(), options.get_port());
    let mut gate = Gate::new(&address).await;
    gate.close().await;
    let url = url.replace(&address, &gate.address);
    assert!(url.contains(&gate.address), "the URL of the database names host and port");
    let mut top = Terminal::open(
        (24, 80),
        &["top", "--schema", &schema, "--every", "250ms"],
        &[("DATABASE_URL", &url), ("RUST_LOG", "trace")],
        std::env::temp_dir(),
    );

    // Nothing was shown yet that anybody could want to pause.
    top.shows("DATABASE AWAY");
    top.press("p");
    top.shows("has not answered yet");
    gate.open().await;
    top.shows("no relay");
    top.until("that it is there", |shown| !shown.contains("AWAY"));
    gate.close().await;
    top.shows("DATABASE AWAY, as of");
    // What is shown is the last answer.
    top.shows("no relay");
    top.press("p");
    top.shows("the database does not answer");
    gate.open().await;
    top.until("that it is back", |shown| !shown.contains("AWAY"));

    // No log line is on the screen, also with all of them asked for.
    let shown = top.text();
    assert!(shown.starts_with("outbox top  postgres://"), "{shown}");
    assert!(!shown.contains("TRACE") && !shown.contains("DEBUG"), "{shown}");
    top.press("\u{3}");
    assert_eq!(top.ended(), (0, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_and_leaves_the_terminal_as_it_was() {
    let (_outbox, schema) = new_schema().await;
    let url = server("DATABASE_URL");
    let variables = [("DATABASE_URL", &*url)];
    let mut top =
        Terminal::open((24, 80), &["top", "--schema", &schema], &variables, std::env::temp_dir());
    top.shows("q quit");
    let killed = Command::new("kill").args(["-TERM", &top.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(top.ended(), (0, String::new()));
}

#[test]
fn what_will_not_get_better_by_waiting_ends_it_and_is_said_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let database = [("OUTBOX_DATABASE_URL", "sqlite:new.db?mode=rwc")];
    let top = Terminal::open((24, 80), &["top"], &database, folder.path());
    let (code, shown) = top.ended();
    assert_eq!(code, 78, "{shown}");
    assert!(shown.replace('\n', "").contains("outbox migrate up"), "{shown}");
}
