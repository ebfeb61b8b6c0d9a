//! Schemas that name types of other schemas of the registry.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::backend::Registered;
use crate::error::{RegistryError, RegistryErrorKind};

/// Most schemas that are fetched for one.
const MOST: usize = 64;
/// Longest chain of schemas that refer to each other.
const DEEPEST: usize = 16;
/// Most bytes of all of them.
const MOST_BYTES: usize = 8 << 20;

/// Where the registry has something that a schema names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SchemaReference {
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) version: i32,
}

impl SchemaReference {
    pub(crate) fn json(&self) -> Value {
        json!({ "name": self.name, "subject": self.subject, "version": self.version })
    }
}

/// `None`: they are not what the API says.
pub(crate) fn read(references: &Value) -> Option<Vec<SchemaReference>> {
    let reference = |reference: &Value| {
        let text = |name: &str| reference.get(name)?.as_str().map(str::to_owned);
        let version = reference.get("version")?.as_i64()?;
        let version = i32::try_from(version).ok()?;
        Some(SchemaReference { name: text("name")?, subject: text("subject")?, version })
    };
    references.as_array()?.iter().map(reference).collect()
}

/// The texts of the schemas that a schema refers to, and of those that these refer to: each once,
/// however many refer to it.
pub(crate) fn fetched(
    of: &Registered,
    fetch: &mut dyn FnMut(&SchemaReference) -> Result<Registered, RegistryError>,
) -> Result<Vec<String>, RegistryError> {
    let mut found = Found { texts: Vec::new(), bytes: of.text.len(), known: BTreeSet::new() };
    found.follow(of, &mut Vec::new(), fetch)?;
    Ok(found.texts)
}

struct Found {
    texts: Vec<String>,
    bytes: usize,
    known: BTreeSet<(String, i32)>,
}

impl Found {
    /// `open`: the schemas that lead here.
    fn follow(
        &mut self,
        of: &Registered,
        open: &mut Vec<(String, i32)>,
        fetch: &mut dyn FnMut(&SchemaReference) -> Result<Registered, RegistryError>,
    ) -> Result<(), RegistryError> {
        for reference in &of.references {
            let place = (reference.subject.clone(), reference.version);
            let said = format!("version {} of {}", place.1, place.0);
            if open.contains(&place) {
                return Err(refused(&format!("{said}, to which it refers, refers to itself")));
            }
            if self.known.contains(&place) {
                continue;
            }
            if self.known.len() == MOST {
                return Err(refused(&format!("it refers to more than {MOST} other schemas")));
            }
            if open.len() == DEEPEST {
                return Err(refused(&format!(
                    "more than {DEEPEST} schemas refer to each other in a row, up to {said}"
                )));
            }
            let found = fetch(reference).map_err(|error| match error.kind() {
                // It is the schema that is there, and what it names that is not.
                RegistryErrorKind::NotRegistered => RegistryError::new(
                    RegistryErrorKind::Answer,
                    format!(
                        "the registry does not have {said}, to which the schema refers ({error})"
                    ),
                ),
                _ => error.about(said),
            })?;
            self.known.insert(place.clone());
            self.bytes += found.text.len();
            if self.bytes > MOST_BYTES {
                return Err(refused("it and the schemas that it refers to are more than 8 MiB"));
            }
            open.push(place);
            self.follow(&found, open, fetch)?;
            open.pop();
            self.texts.push(found.text);
        }
        Ok(())
    }
}

fn refused(why: &str) -> RegistryError {
    RegistryError::new(RegistryErrorKind::Schema, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str, references: &[(&str, i32)]) -> Registered {
        let reference = |(subject, version): &(&str, i32)| SchemaReference {
            name: String::new(),
            subject: (*subject).to_owned(),
            version: *version,
        };
        Registered {
            id: 1,
            format: None,
            text: text.to_owned(),
            references: references.iter().map(reference).collect(),
        }
    }

    fn why(result: Result<Vec<String>, RegistryError>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), RegistryErrorKind::Schema, "{error}");
        error.to_string()
    }

    #[test]
    fn a_schema_that_two_refer_to_is_fetched_once() {
        let mut asked = Vec::new();
        let texts = fetched(&schema("", &[("a", 1), ("b", 1)]), &mut |reference| {
            asked.push(reference.subject.clone());
            Ok(match &*reference.subject {
                "c" => schema("c", &[]),
                other => schema(other, &[("c", 2)]),
            })
        });
        assert_eq!(texts.unwrap(), ["c", "a", "b"]);
        assert_eq!(asked, ["a", "c", "b"]);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let cycle = fetched(&schema("", &[("a", 1)]), &mut |reference| {
            Ok(schema("", &[(if reference.subject == "a" { "b" } else { "a" }, 1)]))
        });
        assert!(why(cycle).contains("version 1 of a, to which it refers, refers to itself"));

        let mut asked = 0;
        let chain = fetched(&schema("", &[("a", 1)]), &mut |reference| {
            asked += 1;
            Ok(schema("", &[("a", reference.version + 1)]))
        });
        assert!(why(chain).contains("in a row"));
        assert_eq!(asked, DEEPEST);

        let many: Vec<_> = (0..1_000).map(|version| ("a", version)).collect();
        let mut asked = 0;
        let wide = fetched(&schema("", &many), &mut |_| {
            asked += 1;
            Ok(schema("", &[]))
        });
        assert!(why(wide).contains("more than 64"));
        assert_eq!(asked, MOST);

        let long = "x".repeat(MOST_BYTES / 2);
        let large =
            fetched(&schema("", &[("a", 1), ("a", 2), ("a", 3)]), &mut |_| Ok(schema(&long, &[])));
        assert!(why(large).contains("8 MiB"));
    }
}
