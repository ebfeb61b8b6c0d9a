//! How it looks: lines from the top, a grid and tables that share the middle, and the keys below.

mod fit;
mod footer;
mod grid;
mod header;
mod help;
mod style;
mod tables;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};

use super::state::{Prompt, State};
pub use style::Palette;

/// Age from which an event that waits is in red: that of the alert.
const OLD: Duration = Duration::from_secs(60);

fn is_old(age: Duration) -> bool {
    age >= OLD
}

/// What does not change while it runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// As it is shown, without a password.
    pub database: &'a str,
    pub palette: Palette,
    /// Pause between two looks at the database.
    pub every: Duration,
    /// Time after which an answer is late.
    pub late: Duration,
}

/// A heading and as many of the rows below it as there is room for.
struct Section {
    heading: Line<'static>,
    rows: Vec<Line<'static>>,
}

pub fn draw(frame: &mut Frame<'_>, state: &State, settings: &Settings<'_>, now: Instant) {
    let area = frame.area();
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    let mut footer = footer::lines(state, columns, settings.palette);
    footer.truncate(rows);
    let mut lines = header::lines(state, settings, now, columns);
    lines.truncate(rows - footer.len());
    lines.extend(middle(state, settings, columns, rows - footer.len() - lines.len()));
    lines.resize(rows - footer.len(), Line::default());
    lines.extend(footer);
    frame.render_widget(Text::from(lines), Rect { ..area });
}

fn middle(
    state: &State,
    settings: &Settings<'_>,
    columns: usize,
    rows: usize,
) -> Vec<Line<'static>> {
    let palette = settings.palette;
    if state.prompt == Prompt::Help {
        let mut lines = help::lines(columns, palette);
        // A blank line before it, if all of it is shown nevertheless.
        if lines.len() < rows {
            lines.insert(0, Line::default());
        }
        lines.truncate(rows);
        return lines;
    }
    let grid = state.snapshot.as_ref().map(|shown| grid::section(shown, columns, palette));
    let parked = tables::parked(state, columns, palette);
    let groups = tables::groups(state, columns, palette);
    stacked([grid, parked, groups].into_iter().flatten().collect(), rows)
}

/// The sections below each other, with a blank line before each if there is room.
fn stacked(sections: Vec<Section>, rows: usize) -> Vec<Line<'static>> {
    const LINES_OF_EACH: usize = 5;
    let wanted: Vec<usize> = sections.iter().map(|section| section.rows.len() + 1).collect();
    let all = wanted.iter().sum::<usize>() + wanted.len();
    let blanks = usize::from(all <= rows || wanted.len() * LINES_OF_EACH <= rows);
    let shares = shares(&wanted, rows - blanks * wanted.len());
    let mut lines = Vec::new();
    for (section, share) in sections.into_iter().zip(shares) {
        lines.extend(std::iter::repeat_n(Line::default(), blanks));
        lines.extend(section.within(share));
    }
    lines
}

/// Number of lines for each, of all there are: a line for each in turn, until none wants more. The
/// first ones get a heading with a row first.
fn shares(wanted: &[usize], rows: usize) -> Vec<usize> {
    const HEADING_AND_ROW: usize = 2;
    let mut left = rows;
    let mut shares: Vec<usize> = Vec::new();
    for wanted in wanted {
        let least = (*wanted).min(HEADING_AND_ROW);
        shares.push(if least <= left { least } else { 0 });
        left -= shares.last().copied().unwrap_or_default();
    }
    while left > 0 {
        let before = left;
        for (share, wanted) in shares.iter_mut().zip(wanted) {
            if left > 0 && (1..*wanted).contains(share) {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    shares
}

impl Section {
    fn within(self, lines: usize) -> Vec<Line<'static>> {
        let Some(room) = lines.checked_sub(1) else { return Vec::new() };
        let mut rows = self.rows;
        if rows.len() > room {
            let more = rows.len() - room.saturating_sub(1);
            rows.truncate(room.saturating_sub(1));
            if room > 0 {
                rows.push(Line::raw(format!("… and {more} more")));
            }
        }
        rows.insert(0, self.heading);
        rows
    }
}
