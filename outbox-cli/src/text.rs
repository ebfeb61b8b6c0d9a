//! What others wrote, as text for a terminal: no byte of it arrives there as a control sequence.

use std::fmt::Write as _;

/// What stands for a value that is not there.
pub const ABSENT: &str = "-";

/// Line ends and other control characters are written out, and what turns the direction of writing:
/// a name would look like another one.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// `1 event`, `2 events`.
pub fn counted(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Whether it separates lines, or orders what follows from right to left or back.
fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most so many characters, the last one of which says that there were more.
pub fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// As it is if it is UTF-8, otherwise its bytes.
pub fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("0x{}", hex(bytes)),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// As programs get it: a text, or what is not UTF-8 in hexadecimal digits. Of a field `key`, the
/// second one is `key_hex`.
pub fn text_or_hex(bytes: Option<&[u8]>) -> (Option<String>, Option<String>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(text.to_owned()), None),
        Some((bytes, Err(_))) => (None, Some(hex(bytes))),
    }
}

/// A key in a table.
pub fn key(key: Option<&[u8]>) -> String {
    const LONGEST: usize = 40;
    key.map_or_else(|| ABSENT.to_owned(), |key| shortened(&one_line(&readable(key)), LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_is_shown_as_its_bytes() {
        assert_eq!(readable("αβ".as_bytes()), "αβ");
        assert_eq!(readable(&[0xff, 0x00, 0x1b]), "0xff001b");
    }

    #[test]
    fn no_control_sequence_reaches_the_terminal() {
        assert_eq!(one_line("a\x1b[31mred\r\n\u{9b}b"), "a\\u{1b}[31mred\\r\\n\\u{9b}b");
        assert_eq!(one_line("\u{202e}srebmun\u{2028}"), "\\u{202e}srebmun\\u{2028}");
    }

    #[test]
    fn long_cells_are_cut_between_characters() {
        assert_eq!(shortened("éé", 2), "éé");
        assert_eq!(shortened("ééé", 2), "éé…");
    }
}
