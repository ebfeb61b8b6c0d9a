//! Screens as a picture, an SVG that shows one after the other.

use std::fmt::Write as _;

use vt100::{Cell, Color, Screen};

const CELL: (f64, f64) = (8.4, 18.0);
const BORDER: f64 = 14.0;
const SECONDS_OF_EACH: usize = 4;

const BACKGROUND: &str = "#0d1117";
const FOREGROUND: &str = "#e6edf3";
/// The first eight colours of a terminal.
const COLORS: [&str; 8] =
    ["#484f58", "#f85149", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4"];

/// How a run of cells looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    color: &'static str,
    bold: bool,
    dim: bool,
    inverse: bool,
}

/// All of one size. Where nothing moves, the first one is shown.
pub fn svg(title: &str, screens: &[Screen]) -> String {
    let (rows, columns) = size(&screens[0]);
    let width = f64::from(columns) * CELL.0 + 2.0 * BORDER;
    let height = f64::from(rows) * CELL.1 + 2.0 * BORDER;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
         font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"14\" fill=\"{FOREGROUND}\">\n\
         <title>{}</title>\n<style>\n{}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n",
        escaped(title),
        animation(screens.len())
    );
    for (at, screen) in screens.iter().enumerate() {
        // Where styles are not understood, too, only the first one is shown.
        let hidden = if at == 0 { "" } else { " opacity=\"0\"" };
        let _ = writeln!(svg, "<g class=\"f f{at}\"{hidden}>");
        (0..rows).for_each(|row| draw_row(&mut svg, screen, row));
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// One after the other, each for as long, from the first one again.
fn animation(screens: usize) -> String {
    let all = screens * SECONDS_OF_EACH;
    let at = |screen: usize| 100.0 * screen as f64 / screens as f64;
    let mut rules = String::from("@media (prefers-reduced-motion: no-preference) {\n");
    let _ = writeln!(rules, ".f {{ animation: {all}s step-end infinite }}");
    (0..screens).for_each(|n| _ = writeln!(rules, ".f{n} {{ animation-name: s{n} }}"));
    rules.push_str("}\n");
    for n in 0..screens {
        let before = if n == 0 { "" } else { "0% { opacity: 0 } " };
        let (from, to) = (at(n), at(n + 1));
        let _ = writeln!(
            rules,
            "@keyframes s{n} {{ {before}{from:.2}% {{ opacity: 1 }} {to:.2}% {{ opacity: 0 }} }}"
        );
    }
    rules
}

/// Rows and columns.
fn size(screen: &Screen) -> (u16, u16) {
    let (rows, columns) = screen.size();
    (rows.get(), columns.get())
}

fn draw_row(svg: &mut String, screen: &Screen, row: u16) {
    let (_, columns) = size(screen);
    let cells = (0..columns).filter_map(|column| Some((column, screen.cell(row, column)?)));
    // Where it begins, how it looks, and a character for each cell.
    let mut runs: Vec<(u16, Look, String)> = Vec::new();
    for (column, cell) in cells {
        let text = cell.contents().chars().next().unwrap_or(' ');
        let look = look(cell);
        match runs.last_mut() {
            Some((_, of_run, run)) if *of_run == look => run.push(text),
            _ => runs.push((column, look, text.into())),
        }
    }
    for (column, look, text) in runs {
        draw_run(svg, (row, column), look, &text);
    }
}

fn draw_run(svg: &mut String, (row, column): (u16, u16), look: Look, text: &str) {
    let x = BORDER + f64::from(column) * CELL.0;
    let y = BORDER + f64::from(row) * CELL.1;
    let width = text.chars().count() as f64 * CELL.0;
    let mut fill = look.color;
    if look.inverse {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{fill}\"/>",
            CELL.1
        );
        fill = BACKGROUND;
    }
    let fill = if fill == FOREGROUND { String::new() } else { format!(" fill=\"{fill}\"") };
    let bold = if look.bold { " font-weight=\"bold\"" } else { "" };
    let dim = if look.dim { " opacity=\"0.5\"" } else { "" };
    let y = y + CELL.1 * 0.75;
    // Each word begins at its cell and is as wide as its cells, whatever the font is.
    for (column, word, columns) in words(text) {
        let (x, length) = (x + column as f64 * CELL.0, columns as f64 * CELL.0);
        let word = escaped(word);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{length:.1}\"{fill}{bold}{dim}>{word}</text>"
        );
    }
}

/// Where each begins, in columns, and how many it has.
fn words(text: &str) -> impl Iterator<Item = (usize, &str, usize)> {
    let mut column = 0;
    text.split(' ').filter_map(move |word| {
        let (begin, columns) = (column, word.chars().count());
        column += columns + 1;
        (columns > 0).then_some((begin, word, columns))
    })
}

fn look(cell: &Cell) -> Look {
    let color = match cell.fgcolor() {
        Color::Idx(index) => COLORS.get(usize::from(index % 8)).copied().unwrap_or(FOREGROUND),
        _ => FOREGROUND,
    };
    Look { color, bold: cell.bold(), dim: cell.dim(), inverse: cell.inverse() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
