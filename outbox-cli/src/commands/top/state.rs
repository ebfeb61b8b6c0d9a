//! What is known, and what keys do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outbox::admin::Status;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::input::{Input, Typed};
use super::rates::{Look, Looks};
use super::snapshot::{Group, ParkedTopic, Snapshot};

/// What follows from a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Stay,
    Quit,
    Do(Action),
}

/// What is asked of the database once it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing is published until it is resumed.
    Pause { reason: String },
    /// Ends that pause. Those of single lanes and topics stay.
    Resume,
    /// All parked events are tried again.
    ReleaseAll,
    /// Those of these topics are.
    Release { topics: Vec<String> },
}

/// What the last lines of the screen are for, and so what a key means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Prompt {
    #[default]
    Keys,
    Help,
    Filter,
    /// Why everything is to be paused.
    Reason(Input),
    /// `y` does it.
    Confirm(Action),
}

#[derive(Debug, Default)]
pub struct State {
    /// `None`: the database has not answered yet.
    pub snapshot: Option<Snapshot>,
    pub looks: Looks,
    /// When it answered last.
    pub answered: Option<Instant>,
    /// Why it did not answer last. `None`: it did.
    pub trouble: Option<String>,
    /// The topics that have parked events.
    pub parked: Vec<ParkedTopic>,
    /// Why they are not known any more.
    pub parked_trouble: Option<String>,
    pub consumers: Consumers,
    pub prompt: Prompt,
    /// Only topics with this text are shown.
    pub filter: Input,
    /// What was done or refused last.
    pub said: Option<String>,
    /// What is asked of the database at the moment.
    pub working: Option<Action>,
}

/// What Kafka says of consumer groups.
#[derive(Debug, Default)]
pub struct Consumers {
    /// Whether it is asked: brokers were named.
    pub are_asked: bool,
    pub groups: Vec<Group>,
    pub read: Option<Instant>,
    /// Why it did not answer last. `None`: it did, or was not asked yet.
    pub trouble: Option<String>,
    /// Number of dead letters by topic and group.
    pub dead_letters: BTreeMap<(String, String), u64>,
}

impl Consumers {
    pub fn dead_letters_of(&self, group: &Group) -> Option<u64> {
        self.dead_letters.get(&(group.topic.clone(), group.group.clone())).copied()
    }

    /// `None`: none were counted yet.
    pub fn all_dead_letters(&self) -> Option<u64> {
        (!self.dead_letters.is_empty()).then(|| self.dead_letters.values().sum())
    }
}

impl State {
    pub fn answered(&mut self, status: &Status, now: Instant) {
        self.looks.add(Look::from(status));
        self.snapshot = Some(Snapshot::from(status));
        self.answered = Some(now);
        self.trouble = None;
    }

    /// How old what is shown is.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.answered.map(|answered| now.duration_since(answered))
    }

    pub fn is_shown(&self, topic: &str) -> bool {
        topic.to_lowercase().contains(&self.filter.text().to_lowercase())
    }

    pub fn key(&mut self, key: KeyEvent) -> Next {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Next::Quit;
        }
        match std::mem::take(&mut self.prompt) {
            Prompt::Keys | Prompt::Help if key.code == KeyCode::Char('q') => return Next::Quit,
            // It goes back a step.
            Prompt::Help if matches!(key.code, KeyCode::Esc | KeyCode::Char('?')) => {}
            Prompt::Keys if key.code == KeyCode::Esc => {
                if self.filter.text().is_empty() {
                    return Next::Quit;
                }
                self.filter = Input::default();
            }
            Prompt::Keys | Prompt::Help => self.command(key.code),
            Prompt::Filter => match self.filter.key(key) {
                Typed::More => self.prompt = Prompt::Filter,
                Typed::Done => {}
                Typed::Cancelled => self.filter = Input::default(),
            },
            Prompt::Reason(reason) => self.reason(reason, key),
            Prompt::Confirm(action) if key.code == KeyCode::Char('y') => {
                self.working = Some(action.clone());
                return Next::Do(action);
            }
            Prompt::Confirm(_) => self.said = Some("nothing was done".to_owned()),
        }
        Next::Stay
    }

    fn command(&mut self, key: KeyCode) {
        self.said = None;
        self.prompt = match key {
            KeyCode::Char('?') => Prompt::Help,
            KeyCode::Char('/') => Prompt::Filter,
            KeyCode::Char('p') => self.pause_or_resume(),
            KeyCode::Char('r') => self.release(),
            _ => Prompt::Keys,
        };
    }

    fn pause_or_resume(&mut self) -> Prompt {
        match self.changeable().map(Snapshot::is_paused) {
            Ok(true) => Prompt::Confirm(Action::Resume),
            Ok(false) => Prompt::Reason(Input::default()),
            Err(why) => self.refuse(why),
        }
    }

    fn release(&mut self) -> Prompt {
        let is_filtered = !self.filter.text().is_empty();
        let shown = self.parked.iter().map(|parked| &parked.topic);
        let topics: Vec<String> = shown.filter(|topic| self.is_shown(topic)).cloned().collect();
        match self.changeable().map(|snapshot| snapshot.parked) {
            Err(why) => self.refuse(why),
            Ok(0) => self.refuse("nothing is parked"),
            Ok(_) if !is_filtered => Prompt::Confirm(Action::ReleaseAll),
            Ok(_) if topics.is_empty() => {
                self.refuse("no topic with parked events has the filter's text")
            }
            Ok(_) => Prompt::Confirm(Action::Release { topics }),
        }
    }

    /// What is shown, if it is how things are: nobody is to change what they do not see.
    fn changeable(&self) -> Result<&Snapshot, &'static str> {
        match &self.snapshot {
            _ if self.working.is_some() => Err("wait for the answer of the database"),
            Some(_) if self.trouble.is_some() => {
                Err("nothing was done: the database does not answer")
            }
            Some(snapshot) => Ok(snapshot),
            None => Err("nothing was done: the database has not answered yet"),
        }
    }

    fn refuse(&mut self, why: &str) -> Prompt {
        self.said = Some(why.to_owned());
        Prompt::Keys
    }

    fn reason(&mut self, mut reason: Input, key: KeyEvent) {
        self.prompt = match reason.key(key) {
            Typed::Cancelled => self.refuse("nothing was done"),
            // Others see it in `outbox status`, and have to decide by it.
            Typed::Done if reason.text().trim().is_empty() => Prompt::Reason(reason),
            Typed::Done => {
                Prompt::Confirm(Action::Pause { reason: reason.text().trim().to_owned() })
            }
            Typed::More => Prompt::Reason(reason),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Pause;
    use super::*;

    /// Types them: `\n` is Enter, `\u{1b}` Esc. Returns what did not stay.
    fn typed(state: &mut State, keys: &str) -> Vec<Next> {
        let code = |c| match c {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            c => KeyCode::Char(c),
        };
        let next = keys.chars().map(|c| state.key(code(c).into()));
        next.filter(|next| *next != Next::Stay).collect()
    }

    fn shown(parked: u64) -> State {
        State { snapshot: Some(Snapshot { parked, ..Snapshot::default() }), ..State::default() }
    }

    fn said(state: &State) -> &str {
        state.said.as_deref().unwrap_or_default()
    }

    #[test]
    fn nothing_can_be_changed_before_the_first_status_or_while_the_database_is_away() {
        for keys in ["p", "py", "pwhy\ny", "r", "ry"] {
            let mut state = State::default();
            assert_eq!(typed(&mut state, keys), [], "{keys}");
        }
        let mut state = shown(1);
        state.trouble = Some("it is away".to_owned());
        assert_eq!(typed(&mut state, "p"), []);
        assert!(said(&state).contains("does not answer"));
        assert_eq!(typed(&mut state, "bad\nyry"), []);
    }

    #[test]
    fn a_pause_has_a_reason_and_is_confirmed() {
        let mut state = shown(0);
        assert_eq!(typed(&mut state, "p\n  \n"), []);
        assert!(matches!(state.prompt, Prompt::Reason(_)), "{:?}", state.prompt);
        assert_eq!(typed(&mut state, "bad prices, q\nn"), []);
        assert_eq!((said(&state), &state.prompt), ("nothing was done", &Prompt::Keys));
        assert_eq!(typed(&mut state, "pbad\u{1b}y"), []);
        let pause = Action::Pause { reason: "bad prices".to_owned() };
        assert_eq!(typed(&mut state, "pbad prices\ny"), [Next::Do(pause)]);
        // One thing at a time.
        assert_eq!(typed(&mut state, "pagain\ny"), []);
    }

    #[test]
    fn what_is_paused_as_a_whole_is_resumed_and_a_paused_topic_is_not() {
        let mut state = shown(0);
        let pause = |is_of_all| Pause { text: String::new(), is_of_all, lasts: Duration::ZERO };
        state.snapshot.as_mut().unwrap().pauses.push(pause(false));
        assert_eq!(typed(&mut state, "p"), []);
        assert!(matches!(state.prompt, Prompt::Reason(_)), "{:?}", state.prompt);
        typed(&mut state, "\u{1b}");
        state.snapshot.as_mut().unwrap().pauses.push(pause(true));
        assert_eq!(typed(&mut state, "pnpy"), [Next::Do(Action::Resume)]);
    }

    #[test]
    fn what_is_released_are_the_parked_events_that_are_shown() {
        assert_eq!(typed(&mut shown(0), "ry"), []);
        let mut state = shown(3);
        assert_eq!(typed(&mut state, "rn"), []);
        assert_eq!(typed(&mut state, "ry"), [Next::Do(Action::ReleaseAll)]);
        let mut state = shown(3);
        let topic =
            |topic: &str| ParkedTopic { topic: topic.to_owned(), events: 1, keys: 1, oldest: None };
        state.parked = vec![topic("orders"), topic("Orders-eu"), topic("mails")];
        assert_eq!(typed(&mut state, "/payments\nr"), []);
        assert!(said(&state).contains("no topic"));
        let topics = vec!["orders".to_owned(), "Orders-eu".to_owned()];
        let release = [Next::Do(Action::Release { topics })];
        assert_eq!(typed(&mut state, "\u{1b}/ORD\nry"), release);
    }

    #[test]
    fn a_filter_is_typed_and_no_key_of_it_is_a_command() {
        let mut state = shown(1);
        assert_eq!(typed(&mut state, "/qpry?\n"), []);
        assert_eq!((state.filter.text(), &state.prompt), ("qpry?", &Prompt::Keys));
        assert!(state.is_shown("a-QPRY?-1") && !state.is_shown("orders"));
        assert_eq!(typed(&mut state, "/x\u{1b}"), []);
        assert_eq!(state.filter.text(), "");
    }

    #[test]
    fn escape_goes_back_a_step_and_quits_at_last() {
        let mut state = shown(0);
        assert_eq!(typed(&mut state, "/a\n?\u{1b}\u{1b}"), []);
        assert_eq!(state.filter.text(), "");
        assert_eq!(typed(&mut state, "\u{1b}"), [Next::Quit]);
        assert_eq!(typed(&mut state, "q?q"), [Next::Quit, Next::Quit]);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for before in ["", "?", "/q", "pq", "p.\n"] {
            let mut state = shown(0);
            assert_eq!(typed(&mut state, before), []);
            assert_eq!(state.key(interrupt), Next::Quit, "{before}");
        }
    }
}
