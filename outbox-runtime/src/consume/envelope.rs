//! CloudEvents in structured mode: the payload of a record is an envelope, one JSON object with the
//! attributes of an event and its data. What is in it is told as binary mode tells it, so that the
//! rest of a consumer knows one mode (`cloudevents/bindings/kafka-protocol-binding.md` and
//! `cloudevents/formats/json-format.md`, version 1.0).

use std::fmt;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::record::{CE_PREFIX, CONTENT_TYPE, readable_key as readable};

/// Content types of structured mode begin with this.
const CLOUD_EVENTS: &str = "application/cloudevents";
/// The one that is read.
const ENVELOPE: &str = "application/cloudevents+json";
/// Several events in one message.
const BATCH: &str = "application/cloudevents-batch+json";

/// Most members of an envelope. Known producers write about ten.
const MOST_MEMBERS: usize = 64;
/// Bytes of an envelope that was read, besides texts and data: together these are never longer than
/// the payload.
#[cfg(feature = "kafka")]
pub(super) const OF_AN_ENVELOPE: usize = MOST_MEMBERS * 96;

const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// Attributes that are text. Extensions may also be numbers and truth values.
const TEXTS: [&str; 4] = ["datacontenttype", "dataschema", "subject", "time"];

/// Padding is optional: encoders for URLs leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an envelope says, as the headers and the payload of binary mode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    headers: Vec<(String, String)>,
    /// Empty if there is no data. That is no tombstone: the record has a value, and compaction keeps
    /// it.
    pub(super) payload: Vec<u8>,
}

/// The envelope of a message, read when it is first asked for. `None`: it has none. An error: what
/// is wrong with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opened(OnceLock<Option<Result<Envelope, String>>>);

impl Opened {
    pub(super) fn get_or_open(
        &self,
        open: impl FnOnce() -> Option<Result<Envelope, String>>,
    ) -> Option<&Result<Envelope, String>> {
        self.0.get_or_init(open).as_ref()
    }
}

/// Whether an envelope says what headers of this name say in binary mode. A record may have both;
/// the envelope counts.
pub(super) fn tells(header: &str) -> bool {
    header.starts_with(CE_PREFIX) || header.eq_ignore_ascii_case(CONTENT_TYPE)
}

/// Whether a record with this content type has an envelope that is read, or a batch of them.
pub(super) fn is_envelope(content_type: &[u8]) -> bool {
    [ENVELOPE, BATCH]
        .iter()
        .any(|one| media_type(content_type).eq_ignore_ascii_case(one.as_bytes()))
}

/// Whether it has one in a format that is not read.
pub(super) fn is_unread(content_type: &[u8]) -> bool {
    let beginning = content_type.get(..CLOUD_EVENTS.len());
    beginning.is_some_and(|it| it.eq_ignore_ascii_case(CLOUD_EVENTS.as_bytes()))
        && !is_envelope(content_type)
}

/// Reads an envelope. `None`: a record with this content type has none.
pub(super) fn open(content_type: &[u8], payload: &[u8]) -> Option<Result<Envelope, String>> {
    if !is_envelope(content_type) {
        return None;
    }
    if media_type(content_type).eq_ignore_ascii_case(BATCH.as_bytes()) {
        return Some(Err(format!(
            "it is a batch of CloudEvents (content type `{BATCH}`), which there is not on Kafka: have its producer write \
             a record for each event"
        )));
    }
    Some(Envelope::of(payload).map_err(|error| {
        format!("its envelope, a CloudEvent in structured mode (content type `{ENVELOPE}`), is malformed: {error}")
    }))
}

/// A content type without its parameters.
fn media_type(content_type: &[u8]) -> &[u8] {
    let end = content_type.iter().position(|byte| *byte == b';').unwrap_or(content_type.len());
    content_type[..end].trim_ascii()
}

impl Envelope {
    fn of(payload: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(payload).map_err(|error| format!("no UTF-8 ({error})"))?;
        let Members(members) = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut envelope = Self::default();
        let (mut data, mut base64) = (None, None);
        for (name, value) in members {
            match &*name {
                "data" => data = Some(value),
                // An attribute that is `null` is one that is not there.
                _ if value.get() == "null" => {}
                "data_base64" => base64 = Some(value),
                _ => envelope.add(&name, value)?,
            }
        }
        for name in REQUIRED {
            match envelope.attribute(name) {
                None => return Err(format!("the attribute `{name}` is missing")),
                Some("") => return Err(format!("the attribute `{name}` is empty")),
                Some(_) => {}
            }
        }
        let version = envelope.attribute("specversion").unwrap_or_default();
        if !version.starts_with("1.") {
            let version = readable(version.as_bytes());
            return Err(format!("the attribute `specversion` is `{version}`; 1.0 is read"));
        }
        envelope.payload = envelope.read_data(data, base64)?;
        Ok(envelope)
    }

    fn add(&mut self, name: &str, value: &RawValue) -> Result<(), String> {
        let raw = value.get();
        let wrong = |what| Err(format!("the attribute `{}` is {what}", readable(name.as_bytes())));
        let text = match raw.as_bytes().first() {
            Some(b'"') => match serde_json::from_str(raw) {
                Ok(text) => text,
                Err(error) => return wrong(format!("no text ({error})")),
            },
            _ if REQUIRED.contains(&name) || TEXTS.contains(&name) => {
                return wrong("no text in quotes".to_owned());
            }
            Some(b'{') => return wrong("an object, and attributes are single values".to_owned()),
            Some(b'[') => return wrong("an array, and attributes are single values".to_owned()),
            _ => raw.to_owned(),
        };
        let header = match name {
            "datacontenttype" => CONTENT_TYPE.to_owned(),
            _ => format!("{CE_PREFIX}{name}"),
        };
        self.headers.push((header, text));
        Ok(())
    }

    /// The event's data: JSON exactly as it stands there, or bytes.
    fn read_data(
        &mut self,
        data: Option<&RawValue>,
        base64: Option<&RawValue>,
    ) -> Result<Vec<u8>, String> {
        let Some(base64) = base64 else {
            let Some(data) = data else { return Ok(Vec::new()) };
            let is_json = match self.header(CONTENT_TYPE) {
                Some(content_type) => is_json(content_type),
                None => {
                    self.headers.push((CONTENT_TYPE.to_owned(), "application/json".to_owned()));
                    true
                }
            };
            if is_json || !data.get().starts_with('"') {
                return Ok(data.get().as_bytes().to_vec());
            }
            let text: Result<String, _> = serde_json::from_str(data.get());
            return text
                .map(String::into_bytes)
                .map_err(|error| format!("`data` is no text ({error})"));
        };
        // Serializers that write every field write `null` for the one that is not used.
        if data.is_some_and(|data| data.get() != "null") {
            return Err("it has both `data` and `data_base64`".to_owned());
        }
        let text: String = serde_json::from_str(base64.get())
            .map_err(|error| format!("`data_base64` is no text ({error})"))?;
        BASE64.decode(text).map_err(|error| format!("`data_base64` is not Base64 ({error})"))
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(header, _)| header.strip_prefix(CE_PREFIX) == Some(name));
        found.map(|(_, value)| &**value)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| &**value)
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }
}

fn is_json(content_type: &str) -> bool {
    let media_type = media_type(content_type.as_bytes()).to_ascii_lowercase();
    let subtype = media_type.split(|byte| *byte == b'/').nth(1).unwrap_or_default();
    subtype == b"json" || subtype.ends_with(b"+json")
}

/// The members of an object, each value as it stands there: how deep it is does not matter.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    // Which of them counts is not the same for everybody who reads it.
                    if members.iter().any(|(known, _)| *known == name) {
                        let name = readable(name.as_bytes());
                        return Err(A::Error::custom(format!("`{name}` is there twice")));
                    }
                    if members.len() == MOST_MEMBERS {
                        return Err(A::Error::custom(format!("more than {MOST_MEMBERS} members")));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests;
