use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::databases::SCHEMAS;

/// Where the outbox's tables are: the schema (`None`: the one that unqualified names lead to) and
/// the prefix of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub(crate) schema: Option<String>,
    pub(crate) prefix: String,
    /// What the database quotes identifiers with.
    pub(crate) quote: char,
}

impl Default for Names {
    fn default() -> Self {
        Self { schema: None, prefix: "outbox_".to_owned(), quote: '"' }
    }
}

impl Names {
    /// The qualified and quoted name of one of the outbox's objects.
    pub(crate) fn qualified(&self, object: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", self.quoted(schema), self.local(object)),
            None => self.local(object),
        }
    }

    /// The quoted name without the schema, for what lives in the schema of its table: an index.
    fn local(&self, object: &str) -> String {
        self.quoted(&format!("{}{object}", self.prefix))
    }

    fn quoted(&self, identifier: &str) -> String {
        let Self { quote, .. } = self;
        format!("{quote}{}{quote}", identifier.replace(*quote, &format!("{quote}{quote}")))
    }

    /// Schema and prefix as one text, for locks and channels that belong to these tables.
    pub(crate) fn identity(&self) -> String {
        self.qualified("")
    }

    /// What metrics call this outbox unless it has a name of its own.
    pub(crate) fn in_metrics(&self) -> String {
        let prefix = self.prefix.trim_end_matches('_');
        match &self.schema {
            Some(schema) if prefix.is_empty() => schema.clone(),
            Some(schema) => format!("{schema}.{prefix}"),
            None => prefix.to_owned(),
        }
    }

    /// Fills a template: `{event}` becomes the table's qualified name, `{'seq'}` that name as a
    /// string literal, `{"event_lane_seq"}` the local name.
    pub(crate) fn fill(&self, template: &str) -> String {
        let mut filled = String::with_capacity(template.len() + 64);
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let Some((object, after)) = after.split_once('}') else {
                filled.push('{');
                rest = after;
                continue;
            };
            if let Some(object) =
                object.strip_prefix('\'').and_then(|object| object.strip_suffix('\''))
            {
                filled.push_str(&literal(&self.qualified(object)));
            } else if let Some(object) =
                object.strip_prefix('"').and_then(|object| object.strip_suffix('"'))
            {
                filled.push_str(&self.local(object));
            } else if object == "schema" {
                filled.push_str(&self.quoted(self.schema.as_deref().unwrap_or_default()));
            } else {
                filled.push_str(&self.qualified(object));
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

/// The names of this process's outboxes. They distinguish an error about a missing table of ours
/// from one about the user's.
static IN_USE: Mutex<Vec<Names>> = Mutex::new(Vec::new());

impl Names {
    pub(crate) fn note_use(&self) {
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        if !in_use.contains(self) {
            in_use.push(self.clone());
        }
    }

    fn are_named_in(&self, words: &str) -> bool {
        self.schema.as_deref().is_some_and(|schema| is_word_of(schema, words))
            || objects().any(|object| is_word_of(&format!("{}{object}", self.prefix), words))
    }
}

/// Whether a database's message names a table or the schema of an outbox of this process. The
/// message may be in any language.
pub(crate) fn are_named_in(words: &str) -> bool {
    IN_USE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .any(|names| names.are_named_in(words))
}

/// The names of all tables and sequences that the schemas create.
fn objects() -> impl Iterator<Item = &'static str> {
    let created = SCHEMAS.iter().flat_map(|schema| {
        ["create table {", "create table if not exists {", "create sequence {"]
            .into_iter()
            .flat_map(move |create| schema.split(create).skip(1))
    });
    created
        .filter_map(|object| object.split_once('}').map(|(object, _)| object))
        .chain(["migration"])
}

fn is_word_of(word: &str, words: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    words.match_indices(word).any(|(at, _)| {
        !words[..at].ends_with(is_part) && !words[at + word.len()..].starts_with(is_part)
    })
}

/// Correct for both values of Postgres's `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    let quoted = format!("'{}'", text.replace('\'', "''"));
    if text.contains('\\') { format!(" E{}", quoted.replace('\\', "\\\\")) } else { quoted }
}

/// A statement that is safe to run: the template is ours, and every name in it is quoted by
/// [`Names::fill`].
pub(crate) fn sql(statement: impl Into<Cow<'static, str>>) -> SqlStr {
    AssertSqlSafe(statement.into()).into_sql_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_outbox_are_told_from_others() {
        let names = Names { prefix: "shop_".to_owned(), ..Names::default() };
        for ours in [
            "relation \"shop_event\" does not exist",
            "Relation »public.shop_lane«",
            "no such table: shop_inbox",
        ] {
            assert!(names.are_named_in(ours), "{ours}");
        }
        for other in [
            "relation \"event\" does not exist",
            "no such table: myshop_event",
            "table shop_events",
            "shop_",
        ] {
            assert!(!names.are_named_in(other), "{other}");
        }
    }

    #[test]
    fn a_hostile_schema_stays_one_identifier() {
        let names = Names {
            schema: Some("a\"; drop table x; --".to_owned()),
            prefix: "o'p_".to_owned(),
            ..Names::default()
        };
        assert_eq!(
            names.fill("from {event} nextval({'seq'}) index {\"i\"}"),
            "from \"a\"\"; drop table x; --\".\"o'p_event\" \
             nextval('\"a\"\"; drop table x; --\".\"o''p_seq\"') index \"o'p_i\""
        );
        assert_eq!(literal(r"\' --"), r" E'\\'' --'");
        let names = Names { schema: Some("a`b".to_owned()), quote: '`', ..Names::default() };
        assert_eq!(names.fill("{event}"), "`a``b`.`outbox_event`");
    }
}
