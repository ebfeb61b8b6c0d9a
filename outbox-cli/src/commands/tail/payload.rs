//! Payloads as they are shown.

use clap::ValueEnum;
use serde_json::Value;

use super::row::Shown;
use crate::text;

/// What stands for what is not to be seen.
const REDACTED: &str = "[redacted]";

/// How payloads are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// Not at all
    None,
    /// As JSON, if they are JSON
    Json,
    /// Their bytes as hexadecimal digits
    Hex,
}

/// A JSON pointer (RFC 6901), by its parts. `*` also stands for every field or item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

/// For clap's `value_parser`.
pub fn pointer(text: &str) -> Result<Pointer, String> {
    let Some(parts) = text.strip_prefix('/') else {
        return Err("a JSON pointer begins with a slash, such as /customer/email".to_owned());
    };
    let unescaped = |part: &str| {
        // What is left of `~` after its two escapes is none.
        if part.replace("~0", "").replace("~1", "").contains('~') {
            return Err("in a JSON pointer, ~ is written ~0, and / in a name is ~1".to_owned());
        }
        Ok(part.replace("~1", "/").replace("~0", "~"))
    };
    parts.split('/').map(unescaped).collect::<Result<_, _>>().map(Pointer)
}

impl Payload {
    /// A payload as it is shown. `None`: it is not there, or larger than is shown.
    pub fn shown(self, payload: Option<&[u8]>, is_tombstone: bool, redact: &[Pointer]) -> Shown {
        let hidden = |why| Shown { payload_hidden: Some(why), ..Shown::default() };
        let Some(bytes) = payload else {
            return hidden(if is_tombstone { "tombstone" } else { "larger than 1 MiB" });
        };
        match self {
            Self::None => Shown::default(),
            Self::Hex => Shown { payload_hex: Some(text::hex(bytes)), ..Shown::default() },
            Self::Json => match serde_json::from_slice::<Value>(bytes) {
                Err(_) => hidden("not JSON"),
                Ok(mut value) => {
                    redact.iter().for_each(|Pointer(parts)| redacted(&mut value, parts));
                    Shown { payload: Some(value), ..Shown::default() }
                }
            },
        }
    }
}

fn redacted(value: &mut Value, parts: &[String]) {
    let Some((part, rest)) = parts.split_first() else {
        *value = Value::from(REDACTED);
        return;
    };
    match value {
        Value::Object(fields) => {
            let meant = fields.iter_mut().filter(|(name, _)| part == "*" || part == *name);
            meant.for_each(|(_, value)| redacted(value, rest));
        }
        Value::Array(items) => {
            let meant = items.iter_mut().enumerate();
            let meant = meant.filter(|(at, _)| part == "*" || *part == at.to_string());
            meant.for_each(|(_, value)| redacted(value, rest));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str, pointers: &[&str]) -> Shown {
        let pointers: Vec<_> = pointers.iter().map(|text| pointer(text).unwrap()).collect();
        Payload::Json.shown(Some(json.as_bytes()), false, &pointers)
    }

    #[test]
    fn what_a_pointer_leads_to_is_replaced_whatever_it_is() {
        let json = r#"{"customer":{"email":"a@b","name":"ann"},"items":[{"card":1},{"card":2}],"a/b":{"~":[3]}}"#;
        let pointers = ["/customer/email", "/items/*/card", "/a~1b/~0", "/not/there"];
        let payload = shown(json, &pointers).payload.unwrap().to_string();
        assert_eq!(
            payload,
            r#"{"a/b":{"~":"[redacted]"},"customer":{"email":"[redacted]","name":"ann"},"items":[{"card":"[redacted]"},{"card":"[redacted]"}]}"#
        );
        let one = shown(json, &["/items/1", "/customer"]).payload.unwrap().to_string();
        assert!(one.contains(r#"[{"card":1},"[redacted]"]"#) && !one.contains("ann"), "{one}");
    }

    #[test]
    fn a_field_that_is_there_twice_is_not_shown_beside_its_redaction() {
        let payload = shown(r#"{"email":"a@b","email":"c@d"}"#, &["/email"]).payload.unwrap();
        assert_eq!(payload.to_string(), r#"{"email":"[redacted]"}"#);
    }

    #[test]
    fn what_is_not_json_is_not_shown() {
        for payload in ["a@b", "{\"email\":\"a@b\"", "\u{feff}{}", &"[".repeat(500)] {
            let shown = shown(payload, &["/email"]);
            assert_eq!(shown.payload_hidden, Some("not JSON"), "{payload}");
            assert_eq!((shown.payload, shown.payload_hex), (None, None));
        }
    }

    #[test]
    fn a_pointer_that_none_would_understand_is_refused() {
        assert_eq!(pointer("/a~01").unwrap(), Pointer(vec!["a~1".to_owned()]));
        for wrong in ["", "email", "$.email", "/a~2", "/a~"] {
            assert!(pointer(wrong).is_err(), "{wrong}");
        }
    }
}
