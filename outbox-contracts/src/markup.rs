//! Text in XML and HTML.

use crate::shape::is_invisible;

/// Markup has no way to write a control character, and a CI server obeys some lines that it is
/// shown.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || is_invisible(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                escaped.extend(c.escape_default())
            }
            c => escaped.push(c),
        }
    }
    escaped
}
