//! The last lines: what the keys do, a question, or what was done.

use ratatui::text::{Line, Span};

use super::fit;
use super::style::Palette;
use crate::commands::top::snapshot::Snapshot;
use crate::commands::top::state::{Action, Prompt, State};
use crate::text::one_line;

/// Most lines of a question or an answer.
const MOST: usize = 3;

pub fn lines(state: &State, columns: usize, palette: Palette) -> Vec<Line<'static>> {
    let (text, style) = match (&state.prompt, &state.working, &state.said) {
        (Prompt::Filter, ..) => {
            (format!("topics with: {}_", state.filter.text()), palette.prompt())
        }
        (Prompt::Reason(reason), ..) => {
            (format!("pause everything, because: {}_", reason.text()), palette.prompt())
        }
        (Prompt::Confirm(action), ..) => (question(action, state), palette.prompt()),
        (_, Some(action), _) => (doing(action).to_owned(), palette.notable()),
        (_, None, Some(said)) => (said.clone(), palette.notable()),
        (Prompt::Keys | Prompt::Help, None, None) => return vec![keys(state, columns, palette)],
    };
    let lines = fit::wrapped(&one_line(&text), columns, MOST);
    let mut lines: Vec<_> = lines.into_iter().map(|line| Line::styled(line, style)).collect();
    if matches!(state.prompt, Prompt::Keys | Prompt::Help) {
        lines.push(keys(state, columns, palette));
    }
    lines
}

/// How to answer comes first: the rest may be long.
fn question(action: &Action, state: &State) -> String {
    let (what, about) = match action {
        Action::Pause { reason } => (
            "Pause everything",
            format!("Events wait in the outbox until it is resumed. Reason: {reason}"),
        ),
        Action::Resume => (
            "Resume",
            "It ends the pause of everything. Those of single lanes and topics stay.".to_owned(),
        ),
        Action::ReleaseAll => {
            let parked = state.snapshot.as_ref().map_or(0, |snapshot| snapshot.parked);
            ("Try all parked events again at once", format!("There are {parked}."))
        }
        Action::Release { topics } => {
            ("Try the parked events of these topics again at once", named(topics))
        }
    };
    format!("{what} (y: yes, another key: no)? {about}")
}

/// A few by name, the rest by number.
fn named(topics: &[String]) -> String {
    const NAMED: usize = 3;
    let names: Vec<_> = topics.iter().take(NAMED).map(|topic| fit::cut(topic, 40)).collect();
    match topics.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more topics", names.join(", ")),
    }
}

fn doing(action: &Action) -> &'static str {
    match action {
        Action::Pause { .. } => "pausing …",
        Action::Resume => "resuming …",
        Action::ReleaseAll | Action::Release { .. } => "releasing …",
    }
}

fn keys(state: &State, columns: usize, palette: Palette) -> Line<'static> {
    let is_paused = state.snapshot.as_ref().is_some_and(Snapshot::is_paused);
    let keys = [
        ("q", "quit"),
        ("p", if is_paused { "resume" } else { "pause" }),
        ("r", "release"),
        ("/", "filter"),
        ("?", "help"),
    ];
    let all = |between: &'static str| {
        let spans = keys.iter().enumerate().flat_map(|(at, (key, what))| {
            let before = if at == 0 { "" } else { between };
            [
                Span::raw(before),
                Span::styled(*key, palette.heading()),
                Span::raw(" "),
                Span::raw(*what),
            ]
        });
        Line::from_iter(spans)
    };
    let mut line = [all("   "), all(" ")]
        .into_iter()
        .find(|line| line.width() <= columns)
        .unwrap_or_else(|| Line::raw(fit::cut("q quit ? help", columns)));
    let filter = format!("   topics with: {}", one_line(state.filter.text()));
    let room = columns.saturating_sub(line.width());
    if !state.filter.text().is_empty() && room > 3 {
        line.push_span(Span::styled(fit::cut(&filter, room), palette.notable()));
    }
    line
}
