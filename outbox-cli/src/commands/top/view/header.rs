//! The first lines: which outbox, how it is, and what is wrong.

use std::time::Instant;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::style::Palette;
use super::{Settings, fit, is_old};
use crate::commands::top::snapshot::Snapshot;
use crate::commands::top::state::State;
use crate::text::{ABSENT, one_line};
use crate::times;

/// Most lines of an error.
const OF_TROUBLE: usize = 3;
/// Most pauses that are named.
const PAUSES: usize = 3;

pub fn lines(
    state: &State,
    settings: &Settings<'_>,
    now: Instant,
    columns: usize,
) -> Vec<Line<'static>> {
    let palette = settings.palette;
    let mut lines = vec![title(state, settings, now, columns)];
    if let Some(trouble) = &state.trouble {
        let trouble = fit::wrapped(&one_line(trouble), columns, OF_TROUBLE);
        lines.extend(trouble.into_iter().map(|line| Line::styled(line, palette.bad())));
    }
    if let Some(snapshot) = &state.snapshot {
        lines.extend(fit::flowing(facts(state, snapshot, palette), columns));
        lines.extend(pauses(snapshot, columns, palette));
    }
    lines
}

fn title(state: &State, settings: &Settings<'_>, now: Instant, columns: usize) -> Line<'static> {
    let palette = settings.palette;
    let (how, style) = match (&state.trouble, state.age(now)) {
        (Some(_), Some(age)) => {
            (format!("DATABASE AWAY, as of {} ago", times::short(age)), palette.bad())
        }
        (Some(_), None) => ("DATABASE AWAY".to_owned(), palette.bad()),
        (None, None) => ("asking …".to_owned(), palette.quiet()),
        (None, Some(age)) if age > settings.every + settings.late => {
            (format!("as of {} ago", times::short(age)), palette.notable())
        }
        (None, Some(_)) if is_stopped(state) => ("PAUSED".to_owned(), palette.notable()),
        (None, Some(_)) => (format!("every {}", times::short(settings.every)), palette.quiet()),
    };
    let how = fit::cut(&how, columns);
    let name = format!("outbox top  {}", one_line(settings.database));
    let name = fit::left(&name, columns.saturating_sub(fit::width(&how) + 1));
    Line::from(vec![Span::styled(name + " ", palette.heading()), Span::styled(how, style)])
}

fn is_stopped(state: &State) -> bool {
    state.snapshot.as_ref().is_some_and(Snapshot::is_paused)
}

/// Each is a name and a value.
fn facts(state: &State, snapshot: &Snapshot, palette: Palette) -> Vec<Vec<Span<'static>>> {
    let about = if snapshot.pending_is_estimate { "~" } else { "" };
    let or_more = if snapshot.parked_or_more { "+" } else { "" };
    let age = |age: Option<_>| age.map_or_else(|| ABSENT.to_owned(), times::short);
    let rates = state.looks.rates();
    let rate = |rate: Option<f64>| rate.map_or_else(|| ABSENT.to_owned(), |n| format!("{n:.0}/s"));
    let when = |is: bool, style: Style| if is { style } else { palette.heading() };
    let old = snapshot.oldest.is_some_and(is_old);
    let fact = |name: &'static str, value: String, style: Style| {
        vec![Span::raw(name), Span::raw(" "), Span::styled(value, style)]
    };
    let mut facts = vec![
        fact("pending", format!("{about}{}", snapshot.pending), palette.heading()),
        fact("oldest", age(snapshot.oldest), when(old, palette.bad())),
        fact("in", rate(rates.map(|rates| rates.emitted)), palette.heading()),
        fact("out", about.to_owned() + &rate(rates.map(|rates| rates.settled)), palette.heading()),
        fact(
            "parked",
            format!("{}{or_more}", snapshot.parked),
            when(snapshot.parked > 0, palette.bad()),
        ),
    ];
    if snapshot.parked > 0 {
        facts.push(fact("oldest parked", age(snapshot.oldest_parked), palette.heading()));
    }
    if snapshot.set_aside > 0 {
        facts.push(fact("set aside", snapshot.set_aside.to_string(), palette.notable()));
    }
    if state.consumers.are_asked {
        let letters = state.consumers.all_dead_letters();
        let style = when(letters.is_some_and(|letters| letters > 0), palette.notable());
        let letters = letters.map_or_else(|| ABSENT.to_owned(), |letters| letters.to_string());
        facts.push(fact("dead letters", letters, style));
    }
    // With fewer, published events are kept for less than their retention.
    if let Some(free @ 0..3) = snapshot.leaves_free {
        facts.push(fact("leaves free", free.to_string(), palette.notable()));
    }
    facts
}

fn pauses(snapshot: &Snapshot, columns: usize, palette: Palette) -> Vec<Line<'static>> {
    let pauses = snapshot.pauses.iter().take(PAUSES).map(|pause| {
        let text = format!("paused for {}: {}", times::short(pause.lasts), pause.text);
        Line::styled(fit::cut(&text, columns), palette.notable())
    });
    let mut lines: Vec<_> = pauses.collect();
    if let Some(more @ 1..) = snapshot.pauses.len().checked_sub(PAUSES) {
        lines.push(Line::styled(format!("… and {more} more pauses"), palette.notable()));
    }
    lines
}
