//! Texts and numbers in little room.

use std::time::Duration;

use ratatui::text::{Line, Span};

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The text in exactly so many columns. If it is longer, it ends with `…`.
pub fn left(text: &str, columns: usize) -> String {
    let shown = cut(text, columns);
    let blanks = columns.saturating_sub(width(&shown));
    shown + &" ".repeat(blanks)
}

/// The same, to the right.
pub fn right(text: &str, columns: usize) -> String {
    let shown = cut(text, columns);
    " ".repeat(columns.saturating_sub(width(&shown))) + &shown
}

pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = beginning(text, columns.saturating_sub(1)).to_owned();
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// As much of the beginning as fits.
fn beginning(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(at, c)| {
        taken += width(&text[*at..at + c.len_utf8()]);
        taken > columns
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// The text in lines, broken between words where that is possible. What is beyond `most` lines is
/// cut off.
pub fn wrapped(text: &str, columns: usize, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && columns > 0 && lines.len() < most {
        if lines.len() + 1 == most || width(rest) <= columns {
            lines.push(cut(rest, columns));
            break;
        }
        let line = beginning(rest, columns);
        let is_between = rest[line.len()..].starts_with(' ');
        let end = if is_between { line.len() } else { line.rfind(' ').unwrap_or(line.len()) };
        // A character that is wider than the line.
        let end = if end == 0 { rest.chars().next().map_or(1, char::len_utf8) } else { end };
        lines.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    lines
}

/// Spans one after the other, in as many lines as they need.
pub fn flowing(spans: Vec<Vec<Span<'static>>>, columns: usize) -> Vec<Line<'static>> {
    const BETWEEN: &str = "   ";
    let mut lines: Vec<Line<'static>> = Vec::new();
    for item in spans {
        let item = Line::from(item);
        match lines.last_mut() {
            Some(line) if line.width() + BETWEEN.len() + item.width() <= columns => {
                line.push_span(BETWEEN);
                line.extend(item.spans);
            }
            _ => lines.push(item),
        }
    }
    lines
}

/// A number in at most so many columns: `999`, `12k`, `3M`. `<k` stands for one below a thousand
/// that does not fit, and `+` if not even that does.
pub fn number(number: u64, columns: usize) -> String {
    const UNITS: [(u64, &str); 6] = [
        (1_000, "k"),
        (1_000_000, "M"),
        (1_000_000_000, "G"),
        (1_000_000_000_000, "T"),
        (1_000_000_000_000_000, "P"),
        (1_000_000_000_000_000_000, "E"),
    ];
    let exact = number.to_string();
    let rounded = UNITS.iter().filter(|(unit, _)| number >= *unit);
    let rounded = rounded.map(|(unit, name)| format!("{}{name}", number / unit));
    let below = UNITS.iter().find(|(unit, _)| number < *unit).map(|(_, name)| format!("<{name}"));
    let mut all = std::iter::once(exact).chain(rounded).chain(below);
    all.find(|text| text.len() <= columns).unwrap_or_else(|| "+".to_owned())
}

/// An age in its largest unit, in at most so many columns.
pub fn age(age: Duration, columns: usize) -> String {
    let seconds = age.as_secs();
    let text = match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    };
    if text.len() <= columns { text } else { "+".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_exactly_the_columns_that_it_is_given() {
        for (text, columns, shown) in [
            ("orders", 8, "orders  "),
            ("orders", 6, "orders"),
            ("orders", 4, "ord…"),
            ("orders", 1, "…"),
            ("orders", 0, ""),
            // Two columns each: half of one is not shown.
            ("注文事件", 8, "注文事件"),
            ("注文事件", 6, "注文… "),
            ("注文", 2, "… "),
        ] {
            assert_eq!(left(text, columns), shown, "{text} {columns}");
            assert_eq!(width(&right(text, columns)), columns, "{text} {columns}");
        }
    }

    #[test]
    fn a_text_is_broken_between_words_and_ends_within_its_lines() {
        assert_eq!(wrapped("it does not answer", 8, 5), ["it does", "not", "answer"]);
        assert_eq!(wrapped("it does not answer", 8, 2), ["it does", "not ans…"]);
        assert_eq!(wrapped("unbreakable", 4, 9), ["unbr", "eaka", "ble"]);
        assert_eq!(wrapped("注文", 1, 9), ["注", "文"]);
        assert_eq!(wrapped("a b", 0, 9), Vec::<String>::new());
        assert_eq!(wrapped("", 9, 9), Vec::<String>::new());
    }

    #[test]
    fn a_number_is_rounded_until_it_fits() {
        for (exact, columns, shown) in [
            (0, 1, "0"),
            (12, 1, "+"),
            (99, 2, "99"),
            (100, 2, "<k"),
            (9_999, 2, "9k"),
            (10_000, 2, "<M"),
            (1_234, 4, "1234"),
            (12_345, 4, "12k"),
            (12_345_678, 4, "12M"),
            (u64::MAX, 4, "18E"),
            (u64::MAX, 2, "+"),
        ] {
            assert_eq!(number(exact, columns), shown, "{exact} in {columns}");
        }
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, shown) in [(0, "0s"), (59, "59s"), (60, "1m"), (7_200, "2h"), (90_000, "1d")]
        {
            assert_eq!(age(Duration::from_secs(seconds), 3), shown);
        }
        assert_eq!(age(Duration::MAX, 3), "+");
    }
}
