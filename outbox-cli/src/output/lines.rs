//! Rows that come one after the other, without an end.

use comfy_table::Table;
use serde::Serialize;

use super::{Format, Output, json, rendered, unframed, yaml};
use crate::failure::Failure;

/// Widest column to whose width later rows are aligned, in cells of the terminal.
const WIDEST: u16 = 40;

/// Renders rows as they come. A column is as wide as the widest cell so far, so that the lines of a
/// table are aligned without its end being known.
#[derive(Debug)]
pub struct Lines {
    output: Output,
    headings: Vec<&'static str>,
    widths: Vec<u16>,
}

impl Lines {
    pub fn new(output: Output, headings: Vec<&'static str>) -> Self {
        Self { output, headings, widths: Vec::new() }
    }

    /// A row for programs, or for people by its cells. With the headings before the first one.
    pub fn row(&mut self, value: &impl Serialize, cells: Vec<String>) -> Result<String, Failure> {
        match self.output.format {
            Format::Json => Ok(json(value)? + "\n"),
            Format::Yaml => yaml::document(&json(value)?),
            Format::Table | Format::Wide if self.widths.is_empty() => {
                let headings: Vec<String> = self.headings.iter().map(ToString::to_string).collect();
                // The first row is known before its headings are printed.
                self.widths = vec![0; headings.len()];
                self.aligned(cells.clone());
                Ok(self.aligned(headings) + &self.aligned(cells))
            }
            Format::Table | Format::Wide => Ok(self.aligned(cells)),
        }
    }

    fn aligned(&mut self, cells: Vec<String>) -> String {
        let mut table = Table::new();
        // It makes the columns as wide as those before, and is not printed.
        table.add_row(self.widths.iter().map(|width| "x".repeat(usize::from(*width))));
        table.add_row(cells);
        for (width, content) in self.widths.iter_mut().zip(table.column_max_content_widths()) {
            *width = content.min(WIDEST).max(*width);
        }
        let lines = rendered(&unframed(table));
        lines.split_once('\n').map(|(_, line)| line.to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    #[test]
    fn lines_are_aligned_by_what_came_before() {
        let mut lines = Lines::new(Output::new(Format::Table, Color::Never), vec!["KEY", "NAME"]);
        let cells = |key: &str, name: &str| vec![key.to_owned(), name.to_owned()];
        let long = "k".repeat(50);
        let rows = [("東京", "a"), ("a-longer-key", "b"), (&long, "c"), ("é", "d")];
        let text: String =
            rows.iter().map(|(key, name)| lines.row(&(), cells(key, name)).unwrap()).collect();
        let pad = " ".repeat(41);
        let expected = format!("KEY   NAME\n東京  a\na-longer-key  b\n{long}  c\né{pad}d\n");
        assert_eq!(text, expected);
    }
}
