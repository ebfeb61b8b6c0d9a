//! Where the collector is, by the option and the variables of OpenTelemetry.

use axum::http::Uri;

use crate::args::Secret;
use crate::failure::Failure;

/// By the specification of OpenTelemetry, for `http/protobuf`.
const DEFAULT: &str = "http://localhost:4318";
const PATH: &str = "/v1/traces";
const OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const OF_ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
/// The one that this command has.
const PROTOCOL: &str = "http/protobuf";

/// The value of a variable. One that is empty is as one that is not set.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The address that spans are posted to. `option`: the value of `--otlp`, which counts before the
/// variables; `true` leaves it to them.
///
/// # Errors
/// None of them shows an address, which may have a password.
pub fn endpoint(option: &Secret, variables: Variables<'_>) -> Result<Uri, Failure> {
    if let Some(other) = PROTOCOLS.iter().find_map(|name| variables(name)).filter(|p| p != PROTOCOL)
    {
        return Err(Failure::configuration(format!(
            "`--otlp`: spans are sent by {PROTOCOL}, and OTEL_EXPORTER_OTLP_PROTOCOL asks for `{}`. Nothing was started. Most \
             collectors take {PROTOCOL} at port 4318",
            other.escape_debug()
        )));
    }
    if option.0 != "true" {
        return parsed(&with_path(&option.0), "--otlp");
    }
    // By the specification, that of traces has its path already.
    if let Some(url) = variables(OF_TRACES) {
        return parsed(&url, OF_TRACES);
    }
    parsed(&with_path(&variables(OF_ALL).unwrap_or_else(|| DEFAULT.to_owned())), OF_ALL)
}

fn with_path(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with(PATH) { url.to_owned() } else { format!("{url}{PATH}") }
}

fn parsed(url: &str, source: &str) -> Result<Uri, Failure> {
    let wrong = |what: &str| {
        Failure::configuration(format!(
            "the address of the collector ({source}) {what}. It is not shown, for it may have a password. Nothing was started"
        ))
    };
    let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("begins neither with http:// nor with https://"));
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(wrong(
            "has a user or a password: send credentials by OTEL_EXPORTER_OTLP_HEADERS, such as authorization=Bearer%20…",
        ));
    }
    if uri.scheme_str() == Some("https") && !cfg!(feature = "tls") {
        return Err(wrong(
            "begins with https://, and this command was built without the feature `tls`",
        ));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(option: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let uri = endpoint(&Secret(option.to_owned()), &get);
        uri.map(|uri| uri.to_string()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_option_counts_before_the_variable_of_traces_and_that_before_the_one_of_all() {
        let (all, traces) = ((OF_ALL, "http://all:1"), (OF_TRACES, "http://traces:1/in"));
        let all_found = Ok("http://all:1/v1/traces".to_owned());
        assert_eq!(found("true", &[]).unwrap(), "http://localhost:4318/v1/traces");
        assert_eq!(found("true", &[all]), all_found);
        assert_eq!(found("true", &[all, traces]).unwrap(), "http://traces:1/in");
        for option in ["http://all:1", "http://all:1/", "http://all:1/v1/traces"] {
            assert_eq!(found(option, &[traces]), all_found);
        }
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused_and_no_password_is_shown() {
        for url in ["http://me:hunter2@all:1", "hunter2", "ftp://hunter2", "http://hunter2 x"] {
            let refused = found(url, &[]).unwrap_err();
            assert!(refused.contains("--otlp") && !refused.contains("hunter2"), "{refused}");
        }
        let refused = found("true", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(refused.contains("4318"), "{refused}");
        assert!(found("true", &[("OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOL)]).is_ok());
    }
}
