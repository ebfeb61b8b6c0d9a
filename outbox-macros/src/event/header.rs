//! Names of headers: Kafka takes any bytes. But some names are reserved, and a name should survive
//! every tool between here and the consumer.

/// Names written by the outbox itself: by the CloudEvents Kafka binding, by W3C Trace Context and by
/// W3C Baggage.
const RESERVED: [&str; 4] = ["content-type", "traceparent", "tracestate", "baggage"];
const RESERVED_PREFIXES: [&str; 2] = ["ce_", "outbox-"];

/// What is wrong with `name`, and the way out.
pub(super) fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the header's name is empty\nhelp: name it: `header = \"x-tenant\"`".to_owned());
    }
    if let Some(illegal) = name.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!(
            "the name of a header cannot have {illegal:?} in it\n\
             help: use visible ASCII characters only, such as `header = \"x-tenant\"`"
        ));
    }
    let lowercase = name.to_ascii_lowercase();
    let reserved = RESERVED.contains(&&*lowercase)
        || RESERVED_PREFIXES.iter().any(|prefix| lowercase.starts_with(prefix));
    if reserved {
        return Err(format!(
            "the header `{name}` is reserved: outbox writes `ce_*`, `outbox-*`, `content-type`, \
             `traceparent`, `tracestate` and `baggage` itself\n\
             help: choose another name, such as `header = \"x-{}\"`",
            lowercase.trim_start_matches("ce_").trim_start_matches("outbox-").replace('_', "-")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_refused_whatever_their_case() {
        for reserved in [
            "ce_id",
            "CE_Type",
            "Content-Type",
            "TraceParent",
            "tracestate",
            "Baggage",
            "outbox-attempt",
        ] {
            assert!(check(reserved).is_err(), "{reserved}");
        }
        for free in ["tenant", "x-tenant", "X-Tenant", "cent", "outbox", "content_type"] {
            assert_eq!(check(free), Ok(()), "{free}");
        }
        for illegal in ["", "x tenant", "mandänt", "a\tb"] {
            assert!(check(illegal).is_err(), "{illegal:?}");
        }
    }
}
