//! The headers of an event, as its row has them: a JSON object of strings.

use std::collections::BTreeMap;
use std::fmt;

use outbox_event::Headers;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};

use crate::error::{ErrorKind, OutboxError};

/// Most headers whose names are compared with each other.
const FEW: usize = 16;

pub(super) fn to_json(headers: &Headers) -> String {
    // A map of strings always serializes.
    serde_json::to_string(headers).unwrap_or_default()
}

/// Reads what [`to_json`] wrote.
pub(super) fn from_json(json: &str) -> Result<Headers, OutboxError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let headers = deserializer.deserialize_map(InOrder).and_then(|headers| {
        deserializer.end()?;
        Ok(headers)
    });
    let headers = headers.map_err(|error| {
        OutboxError::new(
            ErrorKind::Database,
            "the `headers` of an event in the outbox are not a JSON object of strings: they were not written by an outbox",
        )
        .with_source(error)
    })?;
    if are_distinct(&headers) {
        return Ok(headers.into_iter().collect());
    }
    let last_of_each: BTreeMap<String, String> = headers.into_iter().collect();
    Ok(last_of_each.into_iter().collect())
}

/// Whether they certainly are: to compare each name with each other takes long if there are many,
/// and a row that was written by hand may have any number.
fn are_distinct(headers: &[(String, String)]) -> bool {
    let is_new = |(i, (name, _)): (usize, &(String, String))| {
        headers[..i].iter().all(|(other, _)| other != name)
    };
    headers.len() <= FEW && headers.iter().enumerate().all(is_new)
}

/// Reads an object of strings, in its order.
struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut headers = Vec::new();
        while let Some(header) = map.next_entry()? {
            headers.push(header);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vec<(String, String)> {
        let headers = from_json(json).unwrap();
        headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn headers_keep_their_order_and_the_last_of_a_name_counts() {
        assert_eq!(read("{}"), []);
        assert_eq!(read(r#"{"b": "1", "a": "\u00e4"}"#), pairs(&[("b", "1"), ("a", "ä")]));
        assert_eq!(read(r#"{"b": "1", "a": "2", "b": "3"}"#), pairs(&[("a", "2"), ("b", "3")]));
    }

    #[test]
    fn a_hundred_thousand_headers_are_read_and_none_is_twice() {
        let many: Vec<_> = (0..100_000).map(|i| format!(r#""{}":"{i}""#, i % 50_000)).collect();
        let headers = read(&format!("{{{}}}", many.join(",")));
        assert_eq!(headers.len(), 50_000);
        assert!(headers.iter().all(|(name, value)| {
            name.parse::<u32>().unwrap() + 50_000 == value.parse::<u32>().unwrap()
        }));
    }

    #[test]
    fn what_is_no_object_of_strings_is_an_error() {
        for json in ["", "[]", "{} {}", r#"{"a": 1}"#, r#"{"a": null}"#, r#"{"a": {}}"#] {
            assert!(from_json(json).is_err(), "{json}");
        }
    }
}
