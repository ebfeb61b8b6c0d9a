//! A figure: what contenders did, side by side. It is kept as JSON with all samples, and shown as a
//! table and as a picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use outbox_bench_report::{Mean, Pairs};
use serde::{Deserialize, Serialize};

use super::measure::Samples;
use super::{curve, picture};
use crate::Error;
use crate::paths::{create_dir_all, workspace_root};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figure {
    /// The name of its files.
    pub(super) name: String,
    pub(super) title: String,
    /// How it was measured.
    pub(super) about: String,
    /// What it was measured on: machine, versions, settings.
    pub(super) setting: String,
    /// In the order in which they are shown.
    pub(super) columns: Vec<String>,
    /// Those of the picture, which have one unit. The first one, if there are none.
    #[serde(default)]
    drawn: Vec<String>,
    /// The unit of what is drawn, if the columns do not name it.
    #[serde(default)]
    pub(super) unit: Option<String>,
    /// What the numbers are of with which the names of the rows begin, if it is drawn over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) over: Option<String>,
    pub(super) rows: Vec<Row>,
    pub(super) verdicts: Vec<Verdict>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    /// By the names of the columns; those that have no meaning for it are missing.
    pub(super) cells: BTreeMap<String, Samples>,
}

/// A ratio with its budget.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) what: String,
    pub(super) ratio: Samples,
    pub(super) budget: Option<Budget>,
    /// Whether it is the mean of many short turns, instead of the median of a few long ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    of_mean: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Budget {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    pub(super) fn new(
        name: &str,
        title: &str,
        about: &str,
        setting: &str,
        columns: &[&str],
    ) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            about: about.to_owned(),
            setting: setting.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            drawn: Vec::new(),
            unit: None,
            over: None,
            rows: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// The row `name`, which is made if there is none.
    pub(super) fn row(&mut self, name: &str) -> &mut Row {
        let place = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), cells: BTreeMap::new() });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    /// Adds a sample to each column that is named.
    pub(super) fn push(&mut self, row: &str, samples: &[(&str, f64)]) {
        for (column, sample) in samples {
            assert!(self.columns.iter().any(|known| known == column), "no column `{column}`");
            self.row(row).cells.entry((*column).to_owned()).or_default().push(*sample);
        }
    }

    pub(super) fn ratio(&mut self, what: &str, ratio: f64, budget: Option<Budget>) {
        self.verdict(what, budget).ratio.push(ratio);
    }

    /// A ratio of many short turns, of which the mean counts.
    pub(super) fn mean_ratio(&mut self, what: &str, pairs: &Pairs, budget: Option<Budget>) {
        let verdict = self.verdict(what, budget);
        verdict.of_mean = true;
        for round in &pairs.rounds {
            verdict.ratio.push(round.ratio());
        }
    }

    /// The verdict `what`, which is made if there is none.
    fn verdict(&mut self, what: &str, budget: Option<Budget>) -> &mut Verdict {
        let known = self.verdicts.iter().position(|verdict| verdict.what == what);
        let place = known.unwrap_or_else(|| {
            let (what, ratio) = (what.to_owned(), Samples::default());
            self.verdicts.push(Verdict { what, ratio, budget, of_mean: false });
            self.verdicts.len() - 1
        });
        &mut self.verdicts[place]
    }

    fn markdown(&self) -> String {
        let mut page = format!("## {}\n\n{}\n\n{}\n\n", self.title, self.about, self.setting);
        let _ = writeln!(
            page,
            "| | {} |\n|---|{}",
            self.columns.join(" | "),
            "---|".repeat(self.columns.len())
        );
        for row in &self.rows {
            let cells = self.columns.iter().map(|column| shown(&row.samples(column)));
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(page, "| {} | {} |", row.name, cells.join(" | "));
        }
        page.push('\n');
        for verdict in &self.verdicts {
            let _ = writeln!(page, "- {}: {}", verdict.what, verdict.shown());
        }
        let _ = write!(page, "\n![{}](relay/{}.svg)\n\n", self.title, self.name);
        page
    }

    /// The columns of the picture, and their unit.
    pub(super) fn draws(&mut self, columns: &[&str], unit: &str) {
        self.drawn = columns.iter().map(|&column| column.to_owned()).collect();
        self.unit = Some(unit.to_owned());
    }

    /// The columns of the picture, each with its unit, as curves over the numbers with which the
    /// names of the rows begin.
    pub(super) fn draws_curves(&mut self, columns: &[&str], over: &str) {
        self.drawn = columns.iter().map(|&column| column.to_owned()).collect();
        self.over = Some(over.to_owned());
    }

    /// The columns of the picture: the first one, unless it is said.
    pub(super) fn drawn(&self) -> &[String] {
        if self.drawn.is_empty() { &self.columns[..1] } else { &self.drawn }
    }

    /// Writes its files, and the pages that are made of all figures.
    pub(super) fn publish(&self) -> Result<(), Error> {
        let dir = results();
        create_dir_all(&dir)?;
        let json =
            serde_json::to_string_pretty(self).map_err(|error| Error::new(error.to_string()))?;
        write(dir.join(format!("{}.json", self.name)), &(json + "\n"))?;
        print!("{}", self.markdown());
        show()
    }
}

impl Row {
    pub(super) fn samples(&self, column: &str) -> Samples {
        self.cells.get(column).cloned().unwrap_or_default()
    }
}

impl Verdict {
    fn shown(&self) -> String {
        let (value, shown) = if self.of_mean {
            let Mean { mean, from, to } = self.ratio.mean();
            let rounds = self.ratio.len();
            (mean, format!("mean {mean:.3}, 95 % interval {from:.3} to {to:.3}, {rounds} rounds"))
        } else {
            (self.ratio.median(), shown(&self.ratio))
        };
        let met = |met| if met { "met" } else { "**missed**" };
        let budget = match self.budget {
            None => String::new(),
            Some(Budget::AtLeast(least)) => {
                format!("; budget: at least {}, {}", number(least), met(value >= least))
            }
            Some(Budget::AtMost(most)) => {
                format!("; budget: at most {}, {}", number(most), met(value <= most))
            }
        };
        format!("{shown}{budget}")
    }
}

/// The order in which the figures are shown.
const FIGURES: [&str; 18] = [
    "drain",
    "growth",
    "topics",
    "keys",
    "latency",
    "writers",
    "scale-out",
    "disturbances",
    "consumers",
    "inbox",
    "letters",
    "traces",
    "exactly-once-drain",
    "exactly-once-latency",
    "mysql-drain",
    "mysql-growth",
    "mysql-writers",
    "mysql-latency",
];

fn results() -> PathBuf {
    workspace_root().join("benches/results/relay")
}

/// The figures that have been measured.
fn all() -> Result<Vec<Figure>, Error> {
    let paths = FIGURES.map(|name| results().join(format!("{name}.json")));
    paths
        .into_iter()
        .filter(|path| path.exists())
        .map(|path| {
            let json = read(path)?;
            serde_json::from_str(&json)
                .map_err(|error| Error::new(format!("a figure is garbled: {error}")))
        })
        .collect()
}

/// Writes the pictures and the pages that are made of the figures' samples.
pub(super) fn show() -> Result<(), Error> {
    for (path, text) in made(&all()?)? {
        write(path, &text)?;
    }
    Ok(())
}

/// What is made of the figures, and where it is.
fn made(figures: &[Figure]) -> Result<Vec<(PathBuf, String)>, Error> {
    let picture = |figure: &Figure| {
        let svg = match &figure.over {
            None => picture::svg(figure),
            Some(over) => curve::svg(figure, over),
        };
        (results().join(format!("{}.svg", figure.name)), svg)
    };
    let mut made: Vec<_> = figures.iter().map(picture).collect();
    made.push((workspace_root().join("benches/results/relay.md"), page(figures)));
    let readme = workspace_root().join("README.md");
    let text = with_verdicts(&read(readme.clone())?, figures)?;
    made.push((readme, text));
    Ok(made)
}

fn page(figures: &[Figure]) -> String {
    let figures: String = figures.iter().map(Figure::markdown).collect();
    format!(
        "# `cargo xtask bench relay`\n\nWritten by that command. Medians, with the least and the most, unless a mean is named. \
         The samples are in [relay](relay).\n\n{}\n",
        figures.trim_end()
    )
}

/// The figures whose pictures are in the README.
const IN_README: [&str; 2] = ["drain", "latency"];

const BEGIN: &str = "<!-- written by `cargo xtask bench relay` -->\n";
const END: &str = "<!-- end -->\n";

/// The README with the verdicts of all figures.
fn with_verdicts(readme: &str, figures: &[Figure]) -> Result<String, Error> {
    let missing = || Error::new("README.md has no place for the figures");
    let (before, rest) = readme.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    let drawn = figures.iter().filter(|figure| IN_README.contains(&&*figure.name));
    let mut table: String = drawn
        .map(|figure| format!("![{}](benches/results/relay/{}.svg)\n\n", figure.title, figure.name))
        .collect();
    table += "| measured side by side | median (least to most), or mean |\n|---|---|\n";
    for verdict in figures.iter().flat_map(|figure| &figure.verdicts) {
        let _ = writeln!(table, "| {} | {} |", verdict.what, verdict.shown());
    }
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

fn shown(samples: &Samples) -> String {
    let (least, most) = samples.spread();
    match samples.median() {
        median if median.is_nan() => "–".to_owned(),
        median if least < most => {
            format!("{} ({} to {})", number(median), number(least), number(most))
        }
        median => number(median),
    }
}

pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => {
            let mut digits = format!("{value:.0}");
            let mut place = digits.len();
            while place > 3 + usize::from(value < 0.0) {
                place -= 3;
                if place > usize::from(value < 0.0) {
                    digits.insert(place, ',');
                }
            }
            digits
        }
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A number of things.
pub(super) fn count(things: u64) -> String {
    if things < 100 { things.to_string() } else { number(things as f64) }
}

fn read(path: PathBuf) -> Result<String, Error> {
    fs::read_to_string(&path)
        .map_err(|error| Error::io(format_args!("read {}", path.display()), error))
}

fn write(path: PathBuf, text: &str) -> Result<(), Error> {
    fs::write(&path, text)
        .map_err(|error| Error::io(format_args!("write {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use outbox_bench_report::Round;

    use super::*;

    #[test]
    fn every_figure_that_was_measured_is_shown() {
        for entry in fs::read_dir(results()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let name = path.file_stem().unwrap().to_str().unwrap();
                assert!(FIGURES.contains(&name), "{name} is not among the figures");
            }
        }
    }

    #[test]
    fn numbers_are_short_and_readable() {
        let shown = [0.123, 9.876, 45.67, 999.4, 1234.5, 1_234_567.0, -1234.0].map(number);
        assert_eq!(shown, ["0.12", "9.88", "45.7", "999", "1,234", "1,234,567", "-1,234"]);
        assert_eq!([1, 10, 10_000].map(count), ["1", "10", "10,000"]);
    }

    #[test]
    fn the_pages_show_what_was_measured() {
        for (path, text) in made(&all().unwrap()).unwrap() {
            let place = path.display().to_string();
            assert!(read(path).unwrap() == text, "{place}: run `cargo xtask bench show`");
        }
    }

    #[test]
    fn a_missed_budget_is_called_missed() {
        let mut figure = Figure::new("f", "F", "", "", &["rate"]);
        figure.ratio("fast", 0.8, Some(Budget::AtLeast(0.85)));
        figure.ratio("slow", 1.2, Some(Budget::AtMost(1.3)));
        assert_eq!(figure.verdicts[0].shown(), "0.80; budget: at least 0.85, **missed**");
        assert_eq!(figure.verdicts[1].shown(), "1.20; budget: at most 1.30, met");
    }

    #[test]
    fn a_mean_is_shown_with_its_interval() {
        let round = |first| Round { first, second: 1.0 };
        let pairs = Pairs { rounds: [0.9, 1.0, 1.1, 1.0, 1.0].map(round).into() };
        let mut figure = Figure::new("f", "F", "", "", &["rate"]);
        figure.mean_ratio("as fast", &pairs, Some(Budget::AtLeast(0.97)));
        assert_eq!(
            figure.verdicts[0].shown(),
            "mean 0.998, 95 % interval 0.914 to 1.090, 5 rounds; budget: at least 0.97, met"
        );
    }
}
