/// Content types whose payloads begin with the id of a schema in Confluent's framing begin with this.
/// A consumer then puts an id before the payload that is in a header.
pub const WITH_SCHEMA_ID: &str = "application/x-confluent-";

/// Why the payloads of a codec with this content type could not be read. `None`: they could.
///
/// With these types a record is a CloudEvent in structured mode, whatever its headers say: a consumer
/// takes the envelope off, and the codec would get what it did not write.
#[must_use]
pub(crate) const fn problem(content_type: &str) -> Option<&'static str> {
    let mut media_type = content_type.as_bytes();
    let mut end = 0;
    while end < media_type.len() && media_type[end] != b';' {
        end += 1;
    }
    media_type = media_type.split_at(end).0.trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/cloudevents+json")
        || media_type.eq_ignore_ascii_case(b"application/cloudevents-batch+json")
    {
        return Some(
            "the codec of an event has the content type of a CloudEvent in structured mode: its consumers would take the \
             payload for an envelope. Let `CONTENT_TYPE` say what the codec writes, such as `application/json`; the \
             attributes of the CloudEvent are headers",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::problem;
    use crate::EventDescriptor;

    /// The derive calls it in a constant.
    #[test]
    #[should_panic(expected = "of a CloudEvent in structured mode")]
    fn an_event_with_such_a_codec_has_no_descriptor() {
        let _ = EventDescriptor::new("t", "e", 1, "application/cloudevents+json", &[], &[]);
    }

    #[test]
    fn the_types_whose_payloads_consumers_unwrap_are_refused_in_any_spelling() {
        for refused in [
            "application/cloudevents+json",
            " Application/CloudEvents+JSON ; charset=utf-8",
            "application/cloudevents-batch+json",
        ] {
            assert!(problem(refused).is_some(), "{refused}");
        }
        for taken in [
            "",
            ";",
            "application/json",
            "application/cloudevents+avro",
            "application/cloudevents+jsonx",
            "application/json; of=application/cloudevents+json",
        ] {
            assert!(problem(taken).is_none(), "{taken}");
        }
    }
}
