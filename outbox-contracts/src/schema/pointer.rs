//! The names of types in references: in a JSON pointer, which is the fragment of a URI.

/// A name as a part of the reference.
pub(super) fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'~' => escaped.push_str("~0"),
            b'/' => escaped.push_str("~1"),
            b'-' | b'.' | b'_' => escaped.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The name of which this is a part of a reference. `None`: it is none.
pub(super) fn unescaped(part: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let (digits, after) = after.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    let name = String::from_utf8(bytes).ok()?;
    Some(name.replace("~1", "/").replace("~0", "~"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_its_reference() {
        for name in ["Item", "a/b~1 #%25\"é", "", "List<Item>", "~01"] {
            let escaped = escaped(name);
            assert!(
                escaped.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'),
                "{escaped}"
            );
            assert_eq!(unescaped(&escaped).as_deref(), Some(name));
        }
        assert_eq!(unescaped("100%"), None);
    }
}
