//! The relays, and what waits in each lane of theirs: a line for a relay, a column for a lane.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::style::Palette;
use super::{Section, fit, is_old};
use crate::commands::top::snapshot::{Lane, Owner, Relay, Snapshot};
use crate::text::ABSENT;
use crate::times;

/// Columns that a relay's name has at least.
const SHORTEST_NAME: usize = 16;
/// Columns of a lane, from the widest. The last one has no blank between two lanes.
const WIDTHS: [usize; 5] = [6, 5, 4, 3, 1];

/// What is known of a relay beside its lanes, from the most important: name, columns.
const DETAILS: [(&str, usize); 4] = [("STATE", 7), ("UP", 8), ("SILENT", 8), ("VERSION", 10)];

struct Grid<'a> {
    snapshot: &'a Snapshot,
    palette: Palette,
    /// Columns of the relay's name, with a blank.
    name: usize,
    /// Number of the details that there is room for.
    details: usize,
    /// Columns of a lane, with a blank.
    lane: usize,
}

pub fn section(snapshot: &Snapshot, columns: usize, palette: Palette) -> Section {
    let grid = Grid::new(snapshot, columns, palette);
    let mut rows = Vec::new();
    let is_owned = |lane: &Lane| lane.owner != Owner::Nobody;
    if !snapshot.lanes.iter().all(is_owned) {
        rows.push(grid.row(
            "no relay",
            palette.bad(),
            [ABSENT; 4].map(str::to_owned),
            Owner::Nobody,
        ));
    }
    rows.extend(grid.ages());
    for (at, relay) in snapshot.relays.iter().enumerate() {
        let style = match relay.state {
            "alive" => Style::new(),
            "dead" => palette.bad(),
            _ => palette.notable(),
        };
        rows.push(grid.row(&relay.place, style, details(relay), Owner::Relay(at)));
    }
    Section { heading: grid.heading(), rows }
}

fn details(relay: &Relay) -> [String; 4] {
    let silent = relay.silent.map_or_else(|| ABSENT.to_owned(), times::short);
    [relay.state.to_owned(), times::short(relay.up), silent, relay.version.clone()]
}

impl<'a> Grid<'a> {
    fn new(snapshot: &'a Snapshot, columns: usize, palette: Palette) -> Self {
        let lanes = snapshot.lanes.len();
        let room = |lane: usize| columns.saturating_sub(lanes * lane);
        // A dead relay is seen by its state, so that goes before wide columns.
        let fits = |lane: &&usize| room(**lane) > SHORTEST_NAME + DETAILS[0].1;
        let lane = WIDTHS.iter().find(fits).copied().unwrap_or(1);
        let longest = snapshot.relays.iter().map(|relay| fit::width(&relay.place)).max();
        // What is left of the columns is first for the whole name, then for details.
        let mut left = room(lane);
        let name = (longest.unwrap_or_default().max(SHORTEST_NAME) + 1).min(left);
        left -= name;
        let mut details = 0;
        while let Some((_, columns)) = DETAILS.get(details).filter(|(_, columns)| *columns <= left)
        {
            left -= columns;
            details += 1;
        }
        Self { snapshot, palette, name, details, lane }
    }

    fn heading(&self) -> Line<'static> {
        let bold = self.palette.heading();
        let mut spans = vec![Span::styled(fit::left("RELAY", self.name), bold)];
        let details = DETAILS.iter().take(self.details);
        spans.extend(details.map(|(name, columns)| Span::styled(fit::left(name, *columns), bold)));
        spans.extend(self.snapshot.lanes.iter().map(|lane| {
            let style = if lane.is_paused { self.palette.notable() } else { bold };
            // In a single column, the last digit.
            let number = if self.lane > 1 { lane.number } else { lane.number % 10 };
            Span::styled(fit::right(&number.to_string(), self.lane), style)
        }));
        Line::from(spans)
    }

    fn row(&self, name: &str, style: Style, details: [String; 4], owner: Owner) -> Line<'static> {
        let mut spans = vec![Span::styled(self.name(name), style)];
        let details = details.iter().zip(DETAILS).take(self.details);
        spans.extend(details.map(|(text, (_, columns))| {
            Span::styled(fit::left(&fit::cut(text, columns - 1), columns), style)
        }));
        spans.extend(
            self.snapshot
                .lanes
                .iter()
                .map(|lane| if lane.owner == owner { self.held(lane) } else { self.not_held() }),
        );
        Line::from(spans)
    }

    /// With a blank after it.
    fn name(&self, name: &str) -> String {
        fit::left(&fit::cut(name, self.name.saturating_sub(1)), self.name)
    }

    fn held(&self, lane: &Lane) -> Span<'static> {
        let number = fit::number(lane.pending, (self.lane - 1).max(1));
        let style = match lane {
            Lane { owner: Owner::Nobody, .. } => self.palette.bad(),
            Lane { oldest: Some(age), .. } if is_old(*age) => self.palette.bad(),
            Lane { pending: 0, .. } => self.palette.good(),
            _ => self.palette.notable(),
        };
        Span::styled(fit::right(&number, self.lane), style)
    }

    fn not_held(&self) -> Span<'static> {
        Span::styled(fit::right("·", self.lane), self.palette.quiet())
    }

    /// The age of the oldest event of each lane, if there is room for two digits and a unit.
    fn ages(&self) -> Option<Line<'static>> {
        let room = self.lane.checked_sub(1).filter(|room| *room >= 3)?;
        let details: usize = DETAILS.iter().take(self.details).map(|(_, columns)| columns).sum();
        let mut spans = vec![Span::raw(fit::left("oldest", self.name + details))];
        spans.extend(self.snapshot.lanes.iter().map(|lane| match lane.oldest {
            None => self.not_held(),
            Some(age) => {
                let style = if is_old(age) { self.palette.bad() } else { Style::new() };
                Span::styled(fit::right(&fit::age(age, room), self.lane), style)
            }
        }));
        Some(Line::from(spans))
    }
}
