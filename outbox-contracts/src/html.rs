//! A page of the events of a lock, for people. It has no script, and loads nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::ids::Ids;
use crate::lock::{Contract, EventName, Lock};
use crate::markup::escaped;
use crate::shape::{Object, Payload, Shape, Tagging, Union};

/// In the light or dark colours that the reader has chosen. A name may have any length, so it is
/// broken anywhere, and any direction, which ends with it.
const STYLE: &str = "\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1, h2, h3, h4 { line-height: 1.25 }
h2 { border-bottom: 2px solid; margin-top: 3rem; padding-bottom: .25rem }
h3 { margin: 2.5rem 0 .5rem } h3 small { font-weight: normal; margin-left: .5rem }
h4 { margin: 1.5rem 0 .25rem }
article:target h3 { border-left: .25rem solid; padding-left: .5rem }
nav ul { margin: 0 0 1rem; padding-left: 1.5rem } nav p { margin: 0 }
table { border-collapse: collapse; table-layout: fixed; width: 100% }
tr { border-bottom: 1px solid #8888 }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }
th { font-weight: normal; width: 30% }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; unicode-bidi: isolate }
pre { margin: 0; padding: .75rem; background: #8882; white-space: pre-wrap }
@media (max-width: 40rem) { th, td { display: block; width: auto; padding: .25rem 0 } td { padding: 0 0 .25rem 1rem } }
";

/// The page: the topics, and on each the versions of its events, with their keys, headers, fields
/// and examples that are made from the shapes. `title` is what the page is called.
#[must_use]
pub fn html(lock: &Lock, title: &str) -> String {
    let mut topics = BTreeMap::<&str, Vec<(String, &EventName, &Contract)>>::new();
    let mut ids = Ids::default();
    for (name, contract) in &lock.events {
        topics.entry(&name.topic).or_default().push((ids.of_event(name), name, contract));
    }
    let title = escaped(title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<nav>\n"
    );
    for (topic, events) in &topics {
        let _ = writeln!(page, "<p><code>{}</code></p>\n<ul>", escaped(topic));
        for (id, name, contract) in events {
            let heading = heading(name, contract);
            let _ = writeln!(page, "<li><a href=\"#{id}\">{heading}</a></li>");
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</nav>\n<main>\n");
    for (topic, events) in &topics {
        let _ = writeln!(page, "<section>\n<h2>Topic <code>{}</code></h2>", escaped(topic));
        for (id, name, contract) in events {
            event(&mut page, lock, id, name, contract);
        }
        page.push_str("</section>\n");
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn heading(name: &EventName, contract: &Contract) -> String {
    let retired = if contract.retired { ", retired" } else { "" };
    format!("{} <small>version {}{retired}</small>", escaped(&name.name), name.version)
}

fn event(page: &mut String, lock: &Lock, id: &str, name: &EventName, contract: &Contract) {
    let _ = writeln!(page, "<article id=\"{id}\">\n<h3>{}</h3>\n<table>", heading(name, contract));
    let codes = |parts: &mut dyn Iterator<Item = String>, none: &str| {
        let parts: Vec<String> = parts.map(|part| code(&part)).collect();
        if parts.is_empty() { none.to_owned() } else { parts.join(", ") }
    };
    row(page, "Media type", &code(&contract.content_type));
    row(page, "Key", &codes(&mut contract.key.iter().cloned(), "none: events have no order"));
    row(
        page,
        "Headers",
        &codes(&mut contract.headers.iter().cloned(), "only those of CloudEvents"),
    );
    if !contract.reads.is_empty() {
        row(page, "Reads versions", &codes(&mut contract.reads.iter().map(u32::to_string), ""));
    }
    row(page, "May change", &code(&lock.mode_of(name).to_string()));
    page.push_str("</table>\n");
    match &contract.payload {
        Some(known) => payload(page, known),
        None => page.push_str("<p>The lock does not say what is in the payload.</p>\n"),
    }
    page.push_str("</article>\n");
}

fn payload(page: &mut String, payload: &Payload) {
    page.push_str("<h4>Payload</h4>\n");
    shape(page, &payload.shape);
    for (name, of) in &payload.types {
        let _ = writeln!(page, "<h4>{}</h4>", code(name));
        shape(page, of);
    }
    if !payload.removed.is_empty() {
        page.push_str("<h4>Removed</h4>\n<table>\n");
        for (name, of) in &payload.removed {
            row(page, &code(name), &code(&of.to_string()));
        }
        page.push_str("</table>\n");
    }
    if let Some(example) = payload.example() {
        let example = escaped_lines(&format!("{example:#}"));
        let _ = writeln!(page, "<h4>Example</h4>\n<pre>{example}</pre>");
    }
}

fn shape(page: &mut String, shape: &Shape) {
    match shape {
        Shape::Object(Object { fields, flattened, closed }) => {
            page.push_str("<table>\n");
            for (name, field) in fields {
                row(page, &code(name), &code(&field.to_string()));
            }
            for flattened in flattened {
                row(page, "and those of", &code(&flattened.to_string()));
            }
            page.push_str("</table>\n");
            if *closed {
                page.push_str("<p>Readers refuse other fields.</p>\n");
            }
        }
        Shape::Union(Union { tagging, variants }) => {
            match tagging {
                Tagging::External => page.push_str("<p>One of:</p>\n<table>\n"),
                Tagging::Internal(tag) => {
                    let _ = writeln!(page, "<p>One of, as {} says:</p>\n<table>", code(tag));
                }
            }
            for (name, content) in variants {
                let content = content.as_ref().map(|content| code(&content.to_string()));
                row(page, &code(name), &content.unwrap_or_default());
            }
            page.push_str("</table>\n");
        }
        other => {
            let _ = writeln!(page, "<p>{}</p>", code(&other.to_string()));
        }
    }
}

/// Both are markup.
fn row(page: &mut String, name: &str, value: &str) {
    let _ = writeln!(page, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

fn escaped_lines(text: &str) -> String {
    text.lines().map(escaped).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape;

    fn lock(topic: &str, name: &str, field: &str) -> Lock {
        let fields = format!("{{ {}: string? }}", shape::Quoted(field));
        let payload = Payload::new(shape::parse(&fields).unwrap());
        let contract = Contract {
            content_type: "application/json".into(),
            key: vec![field.to_owned()],
            headers: [field.to_owned()].into(),
            payload: Some(payload),
            ..Contract::default()
        };
        let mut lock = Lock::default();
        lock.events.insert(EventName::new(topic, name, 1), contract);
        lock
    }

    #[test]
    fn a_page_has_what_a_consumer_must_know() {
        let page = html(&lock("orders", "order.placed", "customer"), "Orders");
        for part in [
            "<title>Orders</title>",
            "<a href=\"#orders.order.placed.v1\">",
            "<article id=\"orders.order.placed.v1\">",
            "<h2>Topic <code>orders</code></h2>",
            "<tr><th scope=\"row\">Key</th><td><code>customer</code></td></tr>",
            "<td><code>string?</code></td>",
            "<pre>{\n  &quot;customer&quot;: &quot;text&quot;\n}</pre>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    /// A pull request may have anything in the file.
    #[test]
    fn hostile_names_are_only_text() {
        let hostile = "</td><script>alert(1)</script>\"' onload=x \u{1b}[2J\u{202e}";
        let page = html(&lock(hostile, hostile, hostile), hostile);
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("<td>").count(), page.matches("</td>").count(), "{page}");
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'), "{page}");
        let ids = page.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for id in ids {
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)), "{id}");
        }
    }
}
