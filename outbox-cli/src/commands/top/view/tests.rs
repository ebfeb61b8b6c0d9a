//! The picture, in terminals of all sizes.

use std::time::SystemTime;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::rates::{Look, Looks};
use super::super::snapshot::{Group, Lane, Owner, ParkedTopic, Pause, Relay, Snapshot};
use super::super::state::{Action, Consumers};
use super::*;

const URL: &str = "postgres://relay:…@db.internal:5432/orders";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn relay(place: &str, state: &'static str) -> Relay {
    Relay {
        place: place.to_owned(),
        state,
        version: "0.1.0".to_owned(),
        up: seconds(7_500),
        silent: Some(seconds(1)),
    }
}

/// Two relays, of which one holds seven lanes, and two lanes without a relay.
fn snapshot() -> Snapshot {
    let lanes = (0..16).map(|number| Lane {
        number,
        pending: [0, 3, 0, 120, 0, 0, 54_321, 0][number as usize % 8],
        oldest: [None, Some(seconds(2)), None, Some(seconds(75))][number as usize % 4],
        owner: match number {
            0..7 => Owner::Relay(0),
            7..14 => Owner::Relay(1),
            _ => Owner::Nobody,
        },
        is_paused: number == 3,
    });
    Snapshot {
        pending: 108_888,
        pending_is_estimate: true,
        oldest: Some(seconds(75)),
        parked: 3,
        oldest_parked: Some(seconds(4_000)),
        set_aside: 12,
        leaves_free: Some(13),
        lanes: lanes.collect(),
        relays: vec![relay("relay-0.eu:4711", "alive"), relay("relay-1.eu:4712", "dead")],
        pauses: vec![Pause {
            text: "lane 3 is paused by ann: bad prices".to_owned(),
            is_of_all: false,
            lasts: seconds(61),
        }],
        ..Snapshot::default()
    }
}

fn state() -> State {
    let parked = |topic: &str, events| ParkedTopic {
        topic: topic.to_owned(),
        events,
        keys: 1,
        oldest: Some(seconds(4_000)),
    };
    let group = |group: &str, lag, oldest| Group {
        group: group.to_owned(),
        topic: "orders".to_owned(),
        members: Some(2),
        lag,
        oldest,
        in_retry_topics: 1,
    };
    let groups = vec![group("inventory", 17, Some(seconds(3))), group("mail", 0, None)];
    let dead = (("orders".to_owned(), "inventory".to_owned()), 4);
    let mut looks = Looks::default();
    let look = |second, last_number, pending| Look {
        at: SystemTime::UNIX_EPOCH + seconds(second),
        last_number,
        pending,
    };
    looks.add(look(0, 100, 108_000));
    looks.add(look(4, 2_100, 108_888));
    State {
        snapshot: Some(snapshot()),
        looks,
        answered: Some(Instant::now()),
        parked: vec![parked("orders", 2), parked("payments", 13)],
        consumers: Consumers {
            are_asked: true,
            groups,
            read: Some(Instant::now()),
            dead_letters: [dead].into(),
            ..Consumers::default()
        },
        ..State::default()
    }
}

fn terminal(state: &State, columns: u16, rows: u16, palette: Palette) -> Terminal<TestBackend> {
    let settings = Settings { database: URL, palette, every: seconds(1), late: seconds(2) };
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, state, &settings, Instant::now())).unwrap();
    terminal
}

/// The lines of the screen.
fn screen(state: &State, columns: u16, rows: u16) -> String {
    let terminal = terminal(state, columns, rows, Palette { is_colored: true });
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(usize::from(columns.max(1))).map(|cells| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn all_is_shown_where_there_is_room() {
    insta::assert_snapshot!(screen(&state(), 130, 22), @r"
    outbox top  postgres://relay:…@db.internal:5432/orders                                                                    every 1s
    pending ~108888   oldest 1m 15s   in 500/s   out ~278/s   parked 3   oldest parked 1h 6m   set aside 12   dead letters 4
    paused for 1m 1s: lane 3 is paused by ann: bad prices

    RELAY            STATE  UP           0     1     2     3     4     5     6     7     8     9    10    11    12    13    14    15
    no relay         -      -            ·     ·     ·     ·     ·     ·     ·     ·     ·     ·     ·     ·     ·     · 54321     0
    oldest                               ·    2s     ·    1m     ·    2s     ·    1m     ·    2s     ·    1m     ·    2s     ·    1m
    relay-0.eu:4711  alive  2h 5m        0     3     0   120     0     0 54321     ·     ·     ·     ·     ·     ·     ·     ·     ·
    relay-1.eu:4712  dead   2h 5m        ·     ·     ·     ·     ·     ·     ·     0     0     3     0   120     0     0     ·     ·

    PARKED OF TOPIC      EVENTS      KEYS    OLDEST
    orders                    2         1     1h 6m
    payments                 13         1     1h 6m

    GROUP      TOPIC          LAG    OLDEST  RETRYING      DEAD   MEMBERS
    inventory  orders          17        3s         1         4         2
    mail       orders           0         -         1         -         2




    q quit   p pause   r release   / filter   ? help
    ");
}

#[test]
fn a_common_terminal_has_a_narrow_grid() {
    insta::assert_snapshot!(screen(&state(), 80, 24), @r"
    outbox top  postgres://relay:…@db.internal:5432/orders                  every 1s
    pending ~108888   oldest 1m 15s   in 500/s   out ~278/s   parked 3
    oldest parked 1h 6m   set aside 12   dead letters 4
    paused for 1m 1s: lane 3 is paused by ann: bad prices

    RELAY            STATE  UP        0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
    no relay         -      -         ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  · <M  0
    relay-0.eu:4711  alive  2h 5m     0  3  0 <k  0  0 <M  ·  ·  ·  ·  ·  ·  ·  ·  ·
    relay-1.eu:4712  dead   2h 5m     ·  ·  ·  ·  ·  ·  ·  0  0  3  0 <k  0  0  ·  ·

    PARKED OF TOPIC      EVENTS      KEYS    OLDEST
    orders                    2         1     1h 6m
    payments                 13         1     1h 6m

    GROUP      TOPIC          LAG    OLDEST  RETRYING      DEAD   MEMBERS
    inventory  orders          17        3s         1         4         2
    mail       orders           0         -         1         -         2






    q quit   p pause   r release   / filter   ? help
    ");
}

#[test]
fn a_small_terminal_has_what_matters_most() {
    insta::assert_snapshot!(screen(&state(), 40, 10), @r"
    outbox top  postgres://relay:…… every 1s
    pending ~108888   oldest 1m 15s
    in 500/s   out ~278/s   parked 3
    oldest parked 1h 6m   set aside 12
    dead letters 4
    paused for 1m 1s: lane 3 is paused by a…
    RELAY            STATE  0123456789012345
    no relay         -      ··············+0
    … and 2 more
    q quit p pause r release / filter ? help
    ");
}

#[test]
fn the_help_is_whole_in_a_common_terminal() {
    let state = State { prompt: Prompt::Help, ..state() };
    insta::assert_snapshot!(screen(&state, 80, 24), @r"
    outbox top  postgres://relay:…@db.internal:5432/orders                  every 1s
    pending ~108888   oldest 1m 15s   in 500/s   out ~278/s   parked 3
    oldest parked 1h 6m   set aside 12   dead letters 4
    paused for 1m 1s: lane 3 is paused by ann: bad prices
    p         pause everything, with a reason that others see, or end that pause.
              Services emit as before
    r         try parked events again at once: all, or with a filter those of the
              topics that are shown
    /         show only topics that contain a text. Enter keeps it, Esc ends it
    ?         this help. Esc goes back a step, from a question, the help, the
              filter, and then quits
    q         quit, as Ctrl-C does
    in        events emitted or replayed each second, over 10 s; transactions that
              roll back count as well
    out       events published or parked each second. ~: estimated from a sample of
              each lane
    grid      in the line of a relay, what is pending in each lane that it holds; ·
              where it holds none
    <k        some hundreds, where three digits do not fit; <M: ten thousands or
              more; +: more still
    RETRYING  messages in the group's retry topics. DEAD: dead letters, counted from
              time to time
    red       older than 60 s, parked, without a relay, or dead
    q quit   p pause   r release   / filter   ? help
    ");
}

#[test]
fn before_the_first_answer_it_says_that_it_waits_and_then_why() {
    let mut state = State::default();
    insta::assert_snapshot!(screen(&state, 72, 4), @r"
    outbox top  postgres://relay:…@db.internal:5432/orders          asking …


    q quit   p pause   r release   / filter   ? help
    ");
    state.trouble = Some("the database (postgres://db) does not answer: refused".to_owned());
    insta::assert_snapshot!(screen(&state, 72, 4), @r"
    outbox top  postgres://relay:…@db.internal:5432/orders     DATABASE AWAY
    the database (postgres://db) does not answer: refused

    q quit   p pause   r release   / filter   ? help
    ");
}

#[test]
fn while_the_database_is_away_the_last_answer_stays() {
    let mut state = state();
    state.trouble = Some("the database does not answer".to_owned());
    let shown = screen(&state, 100, 20);
    assert!(shown.lines().next().unwrap().contains("DATABASE AWAY"), "{shown}");
    assert!(shown.contains("the database does not answer"), "{shown}");
    assert!(shown.contains("relay-0.eu:4711"), "{shown}");
}

#[test]
fn a_question_says_what_it_is_about() {
    let mut state = state();
    for (action, asked, about) in [
        (Action::Pause { reason: "bad prices".to_owned() }, "Pause everything", "bad prices"),
        (Action::Resume, "Resume", "single lanes"),
        (Action::ReleaseAll, "Try all parked events again", "There are 3"),
        (Action::Release { topics: vec!["orders".to_owned()] }, "of these topics again", "orders"),
    ] {
        state.prompt = Prompt::Confirm(action);
        let shown = screen(&state, 60, 12);
        for said in [asked, about, "(y: yes, another key: no)?"] {
            assert!(shown.replace('\n', " ").contains(said), "{said}: {shown}");
        }
    }
    // However long the reason is, it is asked how to say no.
    state.prompt = Prompt::Confirm(Action::Pause { reason: "because ".repeat(25) });
    assert!(screen(&state, 40, 10).replace('\n', " ").contains("another key: no"));
}

#[test]
fn a_filter_leaves_the_other_topics_out() {
    let mut state = state();
    "PAY"
        .chars()
        .for_each(|c| _ = state.filter.key(ratatui::crossterm::event::KeyCode::Char(c).into()));
    let shown = screen(&state, 80, 24);
    assert!(shown.contains("payments") && shown.contains("topics with: PAY"), "{shown}");
    assert!(!shown.contains("inventory"), "{shown}");
}

#[test]
fn what_others_wrote_never_reaches_the_terminal_as_a_control_sequence() {
    let evil = "\u{1b}[2J\u{9b}31m\r\n\u{7}\u{202e}\u{2066}evil\0";
    let mut state = state();
    for group in &mut state.consumers.groups {
        (group.group, group.topic) = (evil.to_owned(), evil.to_owned());
    }
    state.parked[0].topic = evil.to_owned();
    state.trouble = Some(evil.to_owned());
    state.consumers.trouble = Some(evil.to_owned());
    state.parked_trouble = Some(evil.to_owned());
    let release = Action::Release { topics: vec![evil.to_owned()] };
    let prompts = [Prompt::Keys, Prompt::Filter, Prompt::Confirm(release)];
    for said in [None, Some(evil.to_owned())] {
        for prompt in prompts.clone() {
            state.prompt = prompt;
            state.said.clone_from(&said);
            let shown = screen(&state, 120, 40);
            let raw = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2066}".contains(c));
            assert!(!shown.contains(raw), "{shown:?}");
            assert!(shown.contains("\\u{1b}[2J"), "{shown}");
        }
    }
}

#[test]
fn no_size_and_no_number_makes_it_fail_or_write_over_the_keys() {
    let mut wild = state();
    let shown = wild.snapshot.as_mut().unwrap();
    shown.pending = u64::MAX;
    shown.lanes.iter_mut().for_each(|lane| {
        lane.pending = u64::MAX;
        lane.oldest = Some(Duration::MAX);
    });
    shown.relays = (0..60).map(|n| relay(&format!("注文-{n}").repeat(20), "drains")).collect();
    shown.pauses = vec![shown.pauses[0].clone(); 50];
    wild.consumers.groups = vec![wild.consumers.groups[0].clone(); 300];
    let helps = State { prompt: Prompt::Help, ..state() };
    let sizes = (0..=20).chain([40, 64, 79, 80, 81, 110, 132, 300]);
    for columns in sizes {
        for rows in [0, 1, 2, 3, 9, 10, 24, 50] {
            for state in [&State::default(), &state(), &wild, &helps] {
                let shown = screen(state, columns, rows);
                if columns >= 40 && rows >= 1 {
                    let last = shown.lines().last().unwrap_or_default();
                    assert!(last.contains("q quit"), "{columns}x{rows}\n{shown}");
                }
            }
        }
    }
}

#[test]
fn without_colours_there_are_none() {
    let terminal = terminal(&state(), 80, 24, Palette { is_colored: false });
    let plain = ratatui::style::Color::Reset;
    let buffer = terminal.backend().buffer();
    assert!(buffer.content.iter().all(|cell| cell.fg == plain && cell.bg == plain));
}

#[test]
fn the_lines_are_shared_and_the_first_ones_are_served_first() {
    assert_eq!(shares(&[5, 3, 9], 20), [5, 3, 9]);
    assert_eq!(shares(&[50, 3, 50], 20), [9, 3, 8]);
    assert_eq!(shares(&[5, 3, 9], 3), [3, 0, 0]);
    assert_eq!(shares(&[5, 3], 1), [0, 0]);
    assert_eq!(shares(&[], 9), [0; 0]);
}
