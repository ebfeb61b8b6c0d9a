//! A figure as curves over a number, such as that of the topics: a panel for each column that is
//! drawn, in it a curve for each contender.

use std::fmt::Write as _;

use super::figure::{Figure, Row, count, number};
use super::picture::{Axis, MARGIN, STYLE, WIDTH, ours, short, text};

const TOP: f64 = 96.0;
const HEIGHT: f64 = 200.0;
/// Under the panels: the numbers of the axis, and what they are of.
const BOTTOM: f64 = 56.0;
/// Left of a panel: the numbers of its axis.
const NUMBERS: f64 = 52.0;
/// Right of a panel: half of the last number, and the distance to the next one.
const GAP: f64 = 28.0;
/// Between the ends of a panel and its first and last points, whose numbers have room there.
const INSET: f64 = 20.0;
const POINT: f64 = 3.5;
/// Between a point and its number.
const OFF: f64 = 9.0;
const LINES: &str = "<style>.c{fill:none;stroke-width:2}.c.o{stroke:#0969da}.c.r{stroke:#9198a1}.n{font-size:11px}\
@media(prefers-color-scheme:dark){.c.o{stroke:#4493f8}.c.r{stroke:#656c76}}</style>\n";

/// A point of a curve.
struct Point {
    at: f64,
    median: f64,
    least: f64,
    most: f64,
}

/// `over`: what is counted along the axis.
pub(super) fn svg(figure: &Figure, over: &str) -> String {
    let columns = figure.drawn();
    let panels = columns.len() as f64;
    let width = (WIDTH - 2.0 * MARGIN) / panels - NUMBERS - GAP;
    let height = TOP + HEIGHT + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<style>{STYLE}</style>\n{LINES}\
         <rect class=\"b\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n{}{}",
        text(MARGIN, 26.0, "t", "start", &figure.title),
        text(
            MARGIN,
            46.0,
            "q",
            "start",
            "points: medians; lines through them: from the least to the most"
        ),
    );
    let is_ours = ours(&figure.rows);
    svg += &legend(&figure.rows, is_ours);
    for (n, column) in columns.iter().enumerate() {
        let left = MARGIN + NUMBERS + (width + NUMBERS + GAP) * n as f64;
        svg += &Panel::of(&figure.rows, column, left, width).drawn(column, over, is_ours);
    }
    svg + "</svg>\n"
}

/// The number with which a row's name begins, and whose curve it is of.
fn place(row: &Row) -> (f64, &str) {
    let (group, contender) = row.name.split_once(": ").unwrap_or((&row.name, ""));
    let digits = group.split(' ').next().unwrap_or_default().replace(',', "");
    (digits.parse().unwrap_or(f64::NAN), contender)
}

fn contenders(rows: &[Row]) -> Vec<&str> {
    let mut contenders = Vec::new();
    for row in rows {
        let (_, contender) = place(row);
        if !contenders.contains(&contender) {
            contenders.push(contender);
        }
    }
    contenders
}

/// The names of the curves, if there are several.
fn legend(rows: &[Row], is_ours: impl Fn(&str) -> bool) -> String {
    let contenders = contenders(rows);
    let named = contenders.iter().filter(|_| contenders.len() > 1).enumerate();
    named.fold(String::new(), |mut legend, (n, contender)| {
        let x = WIDTH - MARGIN - 110.0 * (contenders.len() - n) as f64;
        let class = class(is_ours(contender));
        let line = format!("<path class=\"c {class}\" d=\"M{x:.1} 22H{:.1}\"/>", x + 22.0);
        let name = text(x + 28.0, 26.0, "", "start", contender);
        _ = write!(legend, "{line}{name}");
        legend
    })
}

fn class(is_ours: bool) -> &'static str {
    if is_ours { "o" } else { "r" }
}

/// The mean height of a curve.
fn height(points: &[Point]) -> f64 {
    points.iter().map(|point| point.median).sum::<f64>() / points.len().max(1) as f64
}

struct Panel<'a> {
    left: f64,
    width: f64,
    axis: Axis,
    /// The ends of the axis of numbers, which is logarithmic.
    from: f64,
    to: f64,
    curves: Vec<(&'a str, Vec<Point>)>,
}

impl<'a> Panel<'a> {
    fn of(rows: &'a [Row], column: &str, left: f64, width: f64) -> Self {
        let points = |contender: &str| -> Vec<Point> {
            let of_contender = rows.iter().filter(|row| place(row).1 == contender);
            let points = of_contender.map(|row| {
                let samples = row.samples(column);
                let (least, most) = samples.spread();
                Point { at: place(row).0, median: samples.median(), least, most }
            });
            points.filter(|point| !point.median.is_nan() && point.at > 0.0).collect()
        };
        let curves: Vec<_> =
            contenders(rows).into_iter().map(|contender| (contender, points(contender))).collect();
        let all = || curves.iter().flat_map(|(_, points)| points);
        let axis = Axis::up_to(all().map(|point| point.most).fold(0.0, f64::max));
        let from = all().map(|point| point.at).fold(f64::INFINITY, f64::min);
        let to = all().map(|point| point.at).fold(0.0, f64::max);
        Self { left, width, axis, from, to, curves }
    }

    fn drawn(&self, column: &str, over: &str, is_ours: impl Fn(&str) -> bool) -> String {
        let (left, right, bottom) = (self.left, self.left + self.width, TOP + HEIGHT);
        let mut svg = text(left - NUMBERS, TOP - 20.0, "g", "start", column);
        for tick in self.axis.ticks() {
            let y = self.y(tick);
            let number = text(left - 8.0, y + 4.0, "q", "end", &short(tick));
            _ = write!(svg, "<path class=\"l\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>{number}");
        }
        let mut at: Vec<f64> =
            self.curves.iter().flat_map(|(_, points)| points).map(|point| point.at).collect();
        at.sort_by(f64::total_cmp);
        at.dedup();
        for at in at {
            let of = if at < 1e4 { count(at.round() as u64) } else { short(at) };
            svg += &text(self.x(at), bottom + 20.0, "q", "middle", &of);
        }
        svg += &text(left + self.width / 2.0, bottom + 40.0, "q", "middle", over);
        // Ours comes last, above the others.
        let mut curves: Vec<_> = self.curves.iter().collect();
        curves.sort_by_key(|(contender, _)| is_ours(contender));
        let highest = curves.iter().map(|(_, points)| height(points)).fold(0.0, f64::max);
        for (contender, points) in curves {
            let is_highest = height(points) >= highest;
            svg += &self.curve(points, class(is_ours(contender)), is_highest);
        }
        svg
    }

    /// The numbers of the highest curve are above it, and those of the others below.
    fn curve(&self, points: &[Point], class: &str, is_highest: bool) -> String {
        let mut svg = String::new();
        let steps = points.iter().enumerate().map(|(n, point)| {
            let step = if n == 0 { 'M' } else { 'L' };
            format!("{step}{:.1} {:.1}", self.x(point.at), self.y(point.median))
        });
        _ = writeln!(svg, "<path class=\"c {class}\" d=\"{}\"/>", steps.collect::<String>());
        for point in points {
            let (x, y) = (self.x(point.at), self.y(point.median));
            let (above, below) = (self.y(point.most), self.y(point.least));
            _ = write!(
                svg,
                "<path class=\"s\" d=\"M{x:.1} {above:.1}V{below:.1}\"/><circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" \
                 r=\"{POINT}\"/>"
            );
            let baseline = if is_highest { above - OFF } else { below + OFF + 9.0 };
            svg += &text(x, baseline, "n", "middle", &brief(point.median));
        }
        svg
    }

    fn x(&self, at: f64) -> f64 {
        let length = (self.to / self.from).ln();
        let part = if length > 0.0 { (at / self.from).ln() / length } else { 0.5 };
        self.left + INSET + (self.width - 2.0 * INSET) * part
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - value / self.axis.end)
    }
}

/// A number at a point: three digits.
fn brief(value: f64) -> String {
    if value >= 1e4 { format!("{:.0}k", value / 1e3) } else { number(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(rows: &[(&str, f64)]) -> Figure {
        let mut figure = Figure::new("f", "F", "", "", &["events/s", "memory, MiB"]);
        figure.draws_curves(&["events/s"], "topics");
        for (row, sample) in rows {
            figure.push(row, &[("events/s", *sample)]);
        }
        figure
    }

    #[test]
    fn each_contender_has_a_curve_over_the_numbers_of_its_rows() {
        let rows = [
            ("1 topic: outbox", 200_000.0),
            ("1 topic: bare loop", 100_000.0),
            ("10,000 topics: outbox", 150_000.0),
            ("10,000 topics: bare loop", 50_000.0),
        ];
        let svg = svg(&figure(&rows), "topics");
        // Ours and the other: the curve, and its line in the legend.
        assert_eq!(svg.matches("class=\"c o\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"c r\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("<circle class=\"o\"").count(), 2);
        for shown in [">events/s<", ">topics<", ">10k<", ">200k<", ">150k<", ">bare loop<"] {
            assert!(svg.contains(shown), "no {shown} in {svg}");
        }
        assert!(!svg.contains("memory"), "it is not drawn");
    }

    #[test]
    fn the_axis_is_logarithmic() {
        let rows = [("1 key", 1.0), ("1,000 keys", 1.0), ("1,000,000 keys", 1.0)];
        let figure = figure(&rows);
        let panel = Panel::of(&figure.rows, "events/s", 100.0, 100.0);
        let x = [1.0, 1e3, 1e6].map(|at| panel.x(at).round());
        assert!(x.iter().zip([120.0, 150.0, 180.0]).all(|(x, at)| (x - at).abs() < 0.5), "{x:?}");
        // Where nothing else is measured, all of it is ours, and has no name.
        assert!(!svg(&figure, "keys").contains("class=\"c r\""));
    }
}
