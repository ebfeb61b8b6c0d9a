//! A figure as a picture: a panel for each column that is drawn, in it a bar for each row.
//!
//! Not by a plotting library: those that write SVG fix its colours, and a page in a dark theme would
//! get a white rectangle. Here a style sheet chooses them.

use std::fmt::Write as _;

use super::figure::{Figure, Row, number};

pub(super) const WIDTH: f64 = 960.0;
pub(super) const MARGIN: f64 = 16.0;
/// Where the first line begins.
const TOP: f64 = 84.0;
const LINE: f64 = 24.0;
const BAR: f64 = 14.0;
/// Under the last line: the numbers of the axes.
const BOTTOM: f64 = 30.0;
/// Between two panels.
const GAP: f64 = 20.0;
/// Right of the longest bar: the number that belongs to it.
const NUMBERS: f64 = 58.0;
/// Of a character, on average, in the labels.
const CHARACTER: f64 = 7.3;

/// Colours by theme. Ours is set apart from those beside it. Text has an edge, so that no line of the
/// grid runs through a number.
pub(super) const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328;paint-order:stroke;stroke:#fff;stroke-width:4px}.t{font-weight:600;font-size:15px}.q{fill:#59636e;font-size:12px}\
.g{font-weight:600}.o{fill:#0969da}.r{fill:#9198a1}.l{stroke:#d1d9e0}.s{stroke:#1f2328;stroke-width:1.2}.b{fill:#fff}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc;stroke:#0d1117}.q{fill:#9198a1}.o{fill:#4493f8}.r{fill:#656c76}.l{stroke:#3d444d}\
.s{stroke:#f0f6fc}.b{fill:#0d1117}}";

/// What is in a line of all panels.
enum Line<'a> {
    /// The common part of the names of the rows below.
    Heading(&'a str),
    Bar(&'a Row, &'a str),
}

/// An axis from zero on.
pub(super) struct Axis {
    pub(super) end: f64,
    step: f64,
}

pub(super) fn svg(figure: &Figure) -> String {
    let lines = lines(&figure.rows);
    let label = labels_width(&lines);
    let columns = figure.drawn();
    let panels = columns.len() as f64;
    let panel = (WIDTH - 2.0 * MARGIN - label - GAP * panels) / panels;
    let height = TOP + LINE * lines.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <rect class=\"b\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n{}{}",
        text(MARGIN, 26.0, "t", "start", &figure.title),
        text(MARGIN, 46.0, "q", "start", "bars: medians; lines: from the least to the most"),
    );
    for (n, line) in lines.iter().enumerate() {
        let baseline = TOP + LINE * n as f64 + BAR;
        svg += &match line {
            Line::Heading(name) => text(MARGIN, baseline, "g", "start", name),
            Line::Bar(_, name) => text(MARGIN + label, baseline, "", "end", name),
        };
    }
    for (n, column) in columns.iter().enumerate() {
        let left = MARGIN + label + GAP + (panel + GAP) * n as f64;
        let place = Panel { left, width: panel - NUMBERS, ours: ours(&figure.rows) };
        svg += &place.drawn(column, figure.unit.as_deref(), &lines);
    }
    svg + "</svg>\n"
}

/// The rows whose names begin alike, up to a colon, are together under that.
fn lines(rows: &[Row]) -> Vec<Line<'_>> {
    let mut groups: Vec<(Option<&str>, Vec<Line<'_>>)> = Vec::new();
    for row in rows {
        let (group, name) = match row.name.split_once(": ") {
            Some((group, name)) => (Some(group), name),
            None => (None, row.name.as_str()),
        };
        let line = Line::Bar(row, name);
        match groups.iter_mut().find(|(of, _)| *of == group) {
            Some((_, lines)) => lines.push(line),
            None => groups.push((group, vec![line])),
        }
    }
    groups
        .into_iter()
        .flat_map(|(group, lines)| group.map(Line::Heading).into_iter().chain(lines))
        .collect()
}

fn labels_width(lines: &[Line<'_>]) -> f64 {
    let longest = lines.iter().map(|line| match line {
        Line::Heading(_) => 0,
        Line::Bar(_, name) => name.chars().count(),
    });
    longest.max().unwrap_or(0) as f64 * CHARACTER
}

/// Whether a row is ours. Where nothing else is measured, all of them are.
pub(super) fn ours(rows: &[Row]) -> impl Fn(&str) -> bool + Copy {
    let is_named = |name: &str| name == "outbox" || name.starts_with("outbox,");
    let named = |row: &Row| is_named(row.name.rsplit(": ").next().unwrap_or_default());
    let nobody = !rows.iter().any(named);
    move |name: &str| nobody || is_named(name)
}

struct Panel<F> {
    left: f64,
    width: f64,
    ours: F,
}

impl<F: Fn(&str) -> bool> Panel<F> {
    fn drawn(&self, column: &str, unit: Option<&str>, lines: &[Line<'_>]) -> String {
        let rows = lines.iter().filter_map(|line| match line {
            Line::Heading(_) => None,
            Line::Bar(row, _) => Some(row.samples(column).spread().1),
        });
        let axis = Axis::up_to(rows.fold(0.0, f64::max));
        let bottom = TOP + LINE * lines.len() as f64;
        let heading = unit.map_or_else(|| column.to_owned(), |unit| format!("{column}, {unit}"));
        let mut svg = text(self.left, TOP - 12.0, "g", "start", &heading);
        for tick in axis.ticks() {
            let x = self.x(&axis, tick);
            let _ = writeln!(
                svg,
                "<path class=\"l\" d=\"M{x:.1} {:.0}V{bottom:.0}\"/>{}",
                TOP - 4.0,
                text(x, bottom + 16.0, "q", "middle", &short(tick)).trim_end()
            );
        }
        for (n, line) in lines.iter().enumerate() {
            if let Line::Bar(row, name) = line {
                svg += &self.bar(&axis, row, column, name, TOP + LINE * n as f64);
            }
        }
        svg
    }

    fn bar(&self, axis: &Axis, row: &Row, column: &str, name: &str, top: f64) -> String {
        let samples = row.samples(column);
        let (median, (least, most)) = (samples.median(), samples.spread());
        if median.is_nan() {
            return String::new();
        }
        let class = if (self.ours)(name) { "o" } else { "r" };
        let (end, from, to) = (self.x(axis, median), self.x(axis, least), self.x(axis, most));
        let middle = top + BAR / 2.0 + 2.0;
        let (above, below) = (middle - 3.0, middle + 3.0);
        format!(
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{BAR}\"/>\
             <path class=\"s\" d=\"M{from:.1} {above:.0}V{below:.0}M{from:.1} {middle:.0}H{to:.1}M{to:.1} {above:.0}V{below:.0}\"/>{}",
            self.left,
            top + 2.0,
            end - self.left,
            text(end.max(to) + 6.0, top + BAR - 1.0, "", "start", &number(median)),
        )
    }

    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + self.width * value / axis.end
    }
}

impl Axis {
    /// Ends at a round number, and has two to five steps.
    pub(super) fn up_to(greatest: f64) -> Self {
        if greatest <= 0.0 {
            return Self { end: 1.0, step: 1.0 };
        }
        let tenth = 10_f64.powf((greatest / 4.0).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * tenth);
        let step = steps.into_iter().find(|step| *step >= greatest / 4.0).unwrap_or(greatest);
        Self { end: (greatest / step).ceil() * step, step }
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let (end, step) = (self.end, self.step);
        (0..=4).map(move |n| f64::from(n) * step).take_while(move |tick| *tick <= end * 1.001)
    }
}

/// A number of an axis.
pub(super) fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e4 => format!("{}k", value / 1e3),
        value => format!("{}", (value * 1e6).round() / 1e6),
    }
}

pub(super) fn text(x: f64, y: f64, class: &str, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{text}</text>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (greatest, end, step) in [
            (19.0, 20.0, 5.0),
            (254_220.0, 300_000.0, 100_000.0),
            (0.23, 0.3, 0.1),
            (1.0, 1.0, 0.5),
        ] {
            let axis = Axis::up_to(greatest);
            assert!((axis.end - end).abs() < 1e-9, "{greatest}: {}", axis.end);
            assert!((axis.step - step).abs() < 1e-9, "{greatest}: {}", axis.step);
        }
    }

    #[test]
    fn rows_of_one_group_are_together_and_ours_is_set_apart() {
        let mut figure = Figure::new("f", "F", "", "", &["p50", "p99"]);
        figure.draws(&["p50", "p99"], "ms");
        for (row, sample) in [("a: outbox", 1.0), ("b: outbox", 2.0), ("a: other <", 3.0)] {
            figure.push(row, &[("p50", sample), ("p99", sample)]);
        }
        let svg = svg(&figure);
        let place = |what: &str| svg.find(what).unwrap_or_else(|| panic!("no {what} in {svg}"));

        assert!(place(">a<") < place(">other &lt;<") && place(">other &lt;<") < place(">b<"));
        assert_eq!(svg.matches("<rect class=\"o\"").count(), 4);
        assert_eq!(svg.matches("<rect class=\"r\"").count(), 2);
        assert!(svg.contains(">p50, ms<") && svg.contains(">p99, ms<"));
    }
}
