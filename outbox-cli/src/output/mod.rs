//! Data on stdout: a table for people, JSON lines or YAML for programs.
//!
//! JSON and YAML are an interface: a field is never renamed or removed within a version. They have
//! one object for each row, times in RFC 3339, and durations in seconds.

mod lines;
mod yaml;

use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Table};
use serde::Serialize;

pub use lines::Lines;

use crate::failure::Failure;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    Table,
    /// A table with all columns
    Wide,
    /// One JSON object a line
    Json,
    /// One YAML document for each row
    Yaml,
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether it is, for a stream that is a terminal or not.
    pub fn is_on(self, terminal: bool) -> bool {
        match self {
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// What a row of a list is, to programs (`Serialize`) and to people.
pub trait Row: Serialize {
    /// Headings of a table's columns.
    const COLUMNS: &'static [&'static str];
    /// Headings of the further columns of `-o wide`.
    const WIDE: &'static [&'static str] = &[];

    /// A cell for each column, those of `WIDE` last. What others wrote has no control characters:
    /// see `text::one_line`.
    fn cells(&self) -> Vec<String>;
}

/// How, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub format: Format,
    pub color: Color,
}

impl Output {
    pub fn new(format: Format, color: Color) -> Self {
        Self { format, color }
    }

    /// Whether it is for programs: then nothing but data goes to stdout.
    pub fn is_for_programs(self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Whether stdout is a terminal.
    pub fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }

    /// A list. It is printed row by row for programs, and held as a whole for a table.
    pub fn list<R: Row>(self, rows: impl IntoIterator<Item = R>) -> Result<(), Failure> {
        let mut list = self.list_of::<R>();
        for row in rows {
            list.push(&row)?;
        }
        list.end()
    }

    /// A list whose rows come one after the other. See [`List`].
    pub fn list_of<R: Row>(self) -> List<R> {
        List { output: self, table: None, row: std::marker::PhantomData }
    }

    /// A single thing: for programs as it is serialized, for people as `text` says.
    pub fn one(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Json => writeln!(out, "{}", json(value)?)?,
            Format::Yaml => out.write_all(yaml::document(&json(value)?)?.as_bytes())?,
            Format::Table | Format::Wide => {
                let text = text();
                out.write_all(text.as_bytes())?;
                if !text.is_empty() && !text.ends_with('\n') {
                    out.write_all(b"\n")?;
                }
            }
        }
        Ok(out.flush()?)
    }

    /// What is said to people beside the data: on stderr.
    pub fn say(self, what: impl std::fmt::Display) {
        let _ = writeln!(io::stderr(), "{what}");
    }

    /// A table as text, for what is not a list by itself.
    pub fn table<R: Row>(self, rows: &[R]) -> String {
        let mut table = self.empty_table::<R>();
        for row in rows {
            table.add_row(self.cells(row));
        }
        rendered(&table)
    }

    fn empty_table<R: Row>(self) -> Table {
        let wide = if self.format == Format::Wide { R::WIDE } else { &[] };
        let mut table = Table::new();
        table.set_header(R::COLUMNS.iter().chain(wide));
        unframed(table)
    }

    fn cells<R: Row>(self, row: &R) -> Vec<Cell> {
        let columns =
            R::COLUMNS.len() + if self.format == Format::Wide { R::WIDE.len() } else { 0 };
        row.cells().into_iter().take(columns).map(Cell::new).collect()
    }
}

/// A text as it is, which has no control characters of others in it.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A list that is printed while it is made. For programs, each row is written at once; a table needs
/// all of them for its widths.
pub struct List<R> {
    output: Output,
    table: Option<Table>,
    row: std::marker::PhantomData<R>,
}

impl<R: Row> List<R> {
    pub fn push(&mut self, row: &R) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.output.format {
            Format::Json => writeln!(out, "{}", json(row)?)?,
            Format::Yaml => out.write_all(yaml::document(&json(row)?)?.as_bytes())?,
            Format::Table | Format::Wide => {
                let output = self.output;
                let table = self.table.get_or_insert_with(|| output.empty_table::<R>());
                table.add_row(output.cells(row));
            }
        }
        Ok(())
    }

    /// Prints the table, unless it has no rows.
    pub fn end(self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if let Some(table) = &self.table {
            out.write_all(rendered(table).as_bytes())?;
        }
        Ok(out.flush()?)
    }
}

/// Without lines around the cells that it has, and with two spaces between its columns.
fn unframed(mut table: Table) -> Table {
    table.load_style(NOTHING);
    let last = table.column_count();
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if i + 1 == last { 0 } else { 2 }));
    }
    table
}

/// Without spaces at the ends of lines.
fn rendered(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("cannot print as JSON: {error}")))?;
    Ok(without_controls(json))
}

/// JSON may have the control characters from U+007F on as they are, and a terminal obeys those of
/// them that begin a sequence. They can only be in strings.
fn without_controls(json: String) -> String {
    if !json.contains(char::is_control) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if c.is_control() {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Event {
        id: u32,
        key: &'static str,
        note: &'static str,
    }

    impl Row for Event {
        const COLUMNS: &'static [&'static str] = &["ID", "KEY"];
        const WIDE: &'static [&'static str] = &["NOTE"];

        fn cells(&self) -> Vec<String> {
            vec![self.id.to_string(), self.key.to_owned(), self.note.to_owned()]
        }
    }

    const EVENTS: [Event; 2] =
        [Event { id: 1, key: "東京", note: "" }, Event { id: 12_345, key: "é", note: "late" }];

    #[test]
    fn no_control_character_reaches_a_terminal_in_json() {
        let text = "a\u{9b}31m\u{7f}\u{1b}é";
        let printed = json(&text).unwrap();
        assert_eq!(printed, r#""a\u009b31m\u007f\u001bé""#);
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_on_the_terminal() {
        let table = Output::new(Format::Table, Color::Never).table(&EVENTS);
        assert_eq!(table, "ID     KEY\n1      東京\n12345  é\n");
        let wide = Output::new(Format::Wide, Color::Never).table(&EVENTS);
        assert_eq!(wide, "ID     KEY   NOTE\n1      東京\n12345  é     late\n");
    }
}
