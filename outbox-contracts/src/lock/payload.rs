//! Reads the payload of an event in a lock.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeValue;

use super::read::{self, Table};
use super::{Lines, LockError};
use crate::shape::{self, NotAShape, Object, Payload, Shape, Tagging, Union, Value};

/// What stands for the content of a variant that has none.
pub(super) const UNIT: &str = "unit";

/// The payload that is described in the block of an event, if any is.
pub(super) fn read(
    table: &mut Table<'_, '_>,
    lines: &mut Lines,
) -> Result<Option<Payload>, LockError> {
    let shape = shape(table, lines, "")?;
    let mut types = BTreeMap::new();
    if let Some(value) = table.take("types") {
        for (name, value) in read::table(table.source, value)? {
            let inner = read::table(table.source, value)?;
            let mut inner = Table::new(table.source, inner, value.span());
            let prefix = format!("types.{}.", name.get_ref());
            let Some(shape) = self::shape(&mut inner, lines, &prefix)? else {
                return Err(inner.wrong(format!("the type `{}` has no shape", name.get_ref())));
            };
            inner.end()?;
            types.insert(name.get_ref().to_string(), shape);
        }
    }
    let removed = rows(table, lines, "removed", "", shape::parse)?;
    let Some(shape) = shape else {
        return match types.is_empty() && removed.is_none() {
            true => Ok(None),
            false => Err(table.wrong("the event has types or removed fields, but no payload")),
        };
    };
    let payload = Payload { shape, types, removed: removed.unwrap_or_default() };
    if let Some(name) = payload.dangling() {
        return Err(table.wrong(format!("the type `{name}` is named, but not described")));
    }
    match payload.excess() {
        None => Ok(Some(payload)),
        Some(excess) => Err(table.wrong(excess)),
    }
}

/// The shape that the keys of a table describe: those of an event, or of a type.
fn shape(
    table: &mut Table<'_, '_>,
    lines: &mut Lines,
    prefix: &str,
) -> Result<Option<Shape>, LockError> {
    let fields = rows(table, lines, "fields", prefix, shape::parse_field)?;
    let closed = table.flag("closed")?;
    let source = table.source;
    let mut flattened = Vec::new();
    for text in table.texts("flattened")? {
        flattened
            .push(shape::parse(&text).map_err(|error| table.wrong(not_a_shape(&text, &error)))?);
    }
    let variants = rows(table, lines, "variants", prefix, |text| match text {
        UNIT => Ok(None),
        text => shape::parse(text).map(Some),
    })?;
    let tag = table.text("tag")?;
    let has_values = table.take("values").is_some();
    let values = table.texts("values")?;
    let written = match table.take("shape") {
        None => None,
        Some(value) => {
            let text = read::text(source, value)?;
            Some(
                shape::parse(text)
                    .map_err(|error| source.error(value, not_a_shape(text, &error)))?,
            )
        }
    };
    let is_object = fields.is_some() || closed || !flattened.is_empty();
    let mut shapes = Vec::new();
    if is_object {
        let fields = fields.unwrap_or_default();
        shapes.push(Shape::Object(Object { fields, flattened, closed }));
    }
    if variants.is_some() || tag.is_some() {
        let tagging = tag.map_or(Tagging::External, Tagging::Internal);
        shapes.push(Shape::Union(Union { tagging, variants: variants.unwrap_or_default() }));
    }
    if has_values {
        shapes.push(Shape::Values(values.into_iter().map(Value::Text).collect()));
    }
    shapes.extend(written);
    match shapes.len() {
        0 => Ok(None),
        1 => Ok(shapes.pop()),
        _ => Err(table.wrong("it has more than one of `fields`, `variants`, `values` and `shape`")),
    }
}

fn rows<T>(
    table: &mut Table<'_, '_>,
    lines: &mut Lines,
    key: &'static str,
    prefix: &str,
    read: impl Fn(&str) -> Result<T, NotAShape>,
) -> Result<Option<BTreeMap<String, T>>, LockError> {
    let source = table.source;
    let Some(value) = table.take(key) else { return Ok(None) };
    let row = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        lines.insert(format!("{prefix}{key}.{name}"), source.line(&value.span()));
        let text = read::text(source, value)?;
        match read(text) {
            Ok(shape) => Ok((name.to_string(), shape)),
            Err(error) => Err(source.error(value, not_a_shape(text, &error))),
        }
    };
    read::table(source, value)?.iter().map(row).collect::<Result<_, _>>().map(Some)
}

fn not_a_shape(text: &str, error: &NotAShape) -> String {
    format!("`{}` is no shape: {error}", text.escape_debug())
}
