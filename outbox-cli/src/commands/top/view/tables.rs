//! The topics with parked events, and the consumer groups.

use std::time::Duration;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::style::Palette;
use super::{Section, fit, is_old};
use crate::commands::top::snapshot::Group;
use crate::commands::top::state::State;
use crate::text::{ABSENT, one_line};
use crate::times;

/// Columns of a number or of an age, with a blank.
const NARROW: usize = 10;
/// Most columns of a name.
const LONGEST_NAME: usize = 48;

/// What is parked of the topics that are shown. `None`: nothing is.
pub fn parked(state: &State, columns: usize, palette: Palette) -> Option<Section> {
    if state.snapshot.as_ref().is_none_or(|shown| shown.parked + shown.set_aside == 0) {
        return None;
    }
    let topics = state.parked.iter().filter(|parked| state.is_shown(&parked.topic));
    let rows = topics.map(|parked| {
        let numbers = [parked.events.to_string(), parked.keys.to_string(), old(parked.oldest)];
        (vec![one_line(&parked.topic)], numbers.to_vec(), Style::new())
    });
    let mut section = table(
        &["PARKED OF TOPIC"],
        &["EVENTS", "KEYS", "OLDEST"],
        rows.collect(),
        columns,
        palette,
    );
    note(&mut section, state.parked_trouble.as_deref(), columns, palette);
    Some(section)
}

/// The consumer groups of the topics that are shown. `None`: Kafka is not asked.
pub fn groups(state: &State, columns: usize, palette: Palette) -> Option<Section> {
    let consumers = &state.consumers;
    if !consumers.are_asked {
        return None;
    }
    let groups = consumers.groups.iter().filter(|group| state.is_shown(&group.topic));
    let rows = groups.map(|group| {
        let letters = consumers.dead_letters_of(group);
        let number = |number: Option<u64>| number.map_or(ABSENT.to_owned(), |n| n.to_string());
        let numbers = vec![
            group.lag.to_string(),
            old(group.oldest),
            group.in_retry_topics.to_string(),
            number(letters),
            number(group.members.map(u64::from)),
        ];
        (
            vec![one_line(&group.group), one_line(&group.topic)],
            numbers,
            style(group, letters, palette),
        )
    });
    let numbers = ["LAG", "OLDEST", "RETRYING", "DEAD", "MEMBERS"];
    let mut section = table(&["GROUP", "TOPIC"], &numbers, rows.collect(), columns, palette);
    let note = match (&consumers.trouble, consumers.read) {
        (Some(trouble), _) => Some(&**trouble),
        (None, None) => Some("Kafka is asked for consumer groups …"),
        (None, Some(_)) if consumers.groups.is_empty() => {
            Some("no consumer group of this deployment's topics has a dead-letter topic")
        }
        (None, Some(_)) => None,
    };
    self::note(&mut section, note, columns, palette);
    Some(section)
}

fn style(group: &Group, letters: Option<u64>, palette: Palette) -> Style {
    match group {
        Group { oldest: Some(age), .. } if is_old(*age) => palette.bad(),
        _ if letters.is_some_and(|letters| letters > 0) => palette.notable(),
        _ => Style::new(),
    }
}

fn old(age: Option<Duration>) -> String {
    age.map_or_else(|| ABSENT.to_owned(), times::short)
}

/// A line before the rows.
fn note(section: &mut Section, text: Option<&str>, columns: usize, palette: Palette) {
    if let Some(text) = text {
        let text = fit::cut(&one_line(text), columns);
        section.rows.insert(0, Line::styled(text, palette.notable()));
    }
}

/// Names, numbers, and the style of the row.
type Cells = (Vec<String>, Vec<String>, Style);

/// Names to the left and numbers behind them. Where columns are few, the last numbers are left out.
fn table(
    names: &[&str],
    numbers: &[&str],
    rows: Vec<Cells>,
    columns: usize,
    palette: Palette,
) -> Section {
    const SHORTEST_NAME: usize = 12;
    let room = columns.saturating_sub(names.len() * SHORTEST_NAME);
    let shown = numbers.len().min(room / NARROW);
    let of_names = columns.saturating_sub(shown * NARROW) / names.len();
    let longest = |at: usize| {
        let of_rows = rows.iter().map(|(names, ..)| fit::width(&names[at])).max();
        of_rows.unwrap_or_default().max(fit::width(names[at])) + 2
    };
    let widths: Vec<usize> =
        (0..names.len()).map(|at| longest(at).min(of_names).min(LONGEST_NAME)).collect();
    let line = |names: &[String], numbers: &[String], style: Style| {
        let names = names.iter().zip(&widths).map(|(name, width)| {
            Span::raw(fit::left(&fit::cut(name, width.saturating_sub(1)), *width))
        });
        let numbers = numbers
            .iter()
            .take(shown)
            .map(|number| Span::raw(fit::right(&fit::cut(number, NARROW - 1), NARROW)));
        Line::from_iter(names.chain(numbers)).style(style)
    };
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Section {
        heading: line(&owned(names), &owned(numbers), palette.heading()),
        rows: rows.iter().map(|(names, numbers, style)| line(names, numbers, *style)).collect(),
    }
}
