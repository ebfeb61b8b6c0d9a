use std::borrow::Cow;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// Where the outbox's tables are: `schema` (or wherever unqualified names lead) and what their names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub(crate) schema: Option<String>,
    pub(crate) prefix: String,
}

impl Default for Names {
    fn default() -> Self {
        Self { schema: None, prefix: "outbox_".to_owned() }
    }
}

impl Names {
    /// The qualified and quoted name of one of the outbox's objects.
    pub(crate) fn qualified(&self, object: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), self.local(object)),
            None => self.local(object),
        }
    }

    /// The quoted name without the schema, for what lives in the schema of its table: an index.
    fn local(&self, object: &str) -> String {
        quoted(&format!("{}{object}", self.prefix))
    }

    /// One text for both, for locks and channels that belong to these tables.
    pub(crate) fn identity(&self) -> String {
        self.qualified("")
    }

    /// Fills a template: `{event}` becomes the table's qualified name, `{'seq'}` that name as a string literal,
    /// `{"event_lane_seq"}` the local name.
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
            if let Some(object) = object.strip_prefix('\'').and_then(|object| object.strip_suffix('\'')) {
                filled.push_str(&literal(&self.qualified(object)));
            } else if let Some(object) = object.strip_prefix('"').and_then(|object| object.strip_suffix('"'))
            {
                filled.push_str(&self.local(object));
            } else if object == "schema" {
                filled.push_str(&quoted(self.schema.as_deref().unwrap_or_default()));
            } else {
                filled.push_str(&self.qualified(object));
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Right whatever Postgres's `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> String {
    let quoted = format!("'{}'", text.replace('\'', "''"));
    if text.contains('\\') { format!(" E{}", quoted.replace('\\', "\\\\")) } else { quoted }
}

/// A statement that is safe to run: the template is ours, and every name in it is quoted by [`Names::fill`].
pub(crate) fn sql(statement: impl Into<Cow<'static, str>>) -> SqlStr {
    AssertSqlSafe(statement.into()).into_sql_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_schema_stays_one_identifier() {
        let names = Names { schema: Some("a\"; drop table x; --".to_owned()), prefix: "o'p_".to_owned() };
        assert_eq!(
            names.fill("from {event} nextval({'seq'}) index {\"i\"}"),
            "from \"a\"\"; drop table x; --\".\"o'p_event\" \
             nextval('\"a\"\"; drop table x; --\".\"o''p_seq\"') index \"o'p_i\""
        );
        assert_eq!(literal(r"\' --"), r" E'\\'' --'");
    }
}
