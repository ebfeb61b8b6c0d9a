//! As JSON lines.

use std::fmt::Write as _;

use serde_json::json;

use crate::check::Violation;

/// One object a line. No field of it is renamed or removed within a version.
#[must_use]
pub fn json(violations: &[Violation], file: &str) -> String {
    let mut lines = String::new();
    for Violation { event, path, rule, what, line } in violations {
        let object = json!({
            "rule": rule.id(),
            "topic": event.topic,
            "name": event.name,
            "version": event.version,
            "path": (!path.is_empty()).then_some(path),
            "what": what,
            "consequence": rule.consequence(),
            "fix": rule.fix(),
            "file": file,
            "line": line,
        });
        for c in object.to_string().chars() {
            // These can only be in texts, where JSON has another way to write them. All of them are
            // of the basic plane.
            if c.is_control() || crate::shape::is_invisible(c) {
                let _ = write!(lines, "\\u{:04x}", u32::from(c));
            } else {
                lines.push(c);
            }
        }
        lines.push('\n');
    }
    lines
}
