//! Reads a lock.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::payload;
use super::{Contract, EventName, FORMAT, Lines, Lock, LockError};
use crate::mode::Mode;

pub(super) fn lock(text: &str) -> Result<Lock, LockError> {
    let source = Source::new(text);
    if let Some(line) = conflict(text) {
        return Err(LockError::new(
            line,
            "a merge conflict that is not resolved. Keep both sides if they are of two events; of one event, take the side that has \
             the type as it is now, and compare it with both sides by `outbox contracts check --against git:…`",
        ));
    }
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| source.line(&span));
        LockError::new(line, error.message())
    })?;
    let mut top = Table::new(&source, document.get_ref(), document.span());
    let format = top
        .take("format")
        .ok_or_else(|| top.wrong("`format` is missing: is it a lock of events?"))?;
    let number = integer(&source, format)?;
    if number != FORMAT {
        return Err(source.error(
            format,
            format!(
                "the lock's format is {number}, and this version of outbox knows {FORMAT}: use the version of outbox that wrote it"
            ),
        ));
    }
    let mode = top.mode()?.unwrap_or_default();
    let mut lock = Lock { mode, ..Lock::default() };
    if let Some(events) = top.take("event") {
        for value in array(&source, events)? {
            let table = table(&source, value)?;
            let mut lines = Lines::from([(String::new(), source.line(&value.span()))]);
            let table = Table::new(&source, table, value.span());
            let (name, contract) = event(table, &mut lines)?;
            if lock.events.contains_key(&name) {
                let first = lock.line(&name, "").unwrap_or_default();
                return Err(source.error(
                    value,
                    format!("the event {name} is there already, on line {first}: delete one of the two blocks"),
                ));
            }
            lock.lines.insert(name.clone(), lines);
            lock.events.insert(name, contract);
        }
    }
    top.end()?;
    Ok(lock)
}

fn event(mut table: Table<'_, '_>, lines: &mut Lines) -> Result<(EventName, Contract), LockError> {
    let topic = table.required_text("topic")?;
    let event = table.required_text("name")?;
    let version = table.take("version").ok_or_else(|| table.wrong("`version` is missing"))?;
    let version = number(table.source, version)?;
    let name = EventName { topic, name: event, version };
    for key in table.keys() {
        lines.insert(key.0.to_owned(), key.1);
    }
    let contract = Contract {
        content_type: table.required_text("content-type")?,
        key: table.texts("key")?,
        headers: table.texts("headers")?.into_iter().collect(),
        mode: table.mode()?,
        reads: match table.take("reads") {
            None => Default::default(),
            Some(versions) => array(table.source, versions)?
                .iter()
                .map(|version| number(table.source, version))
                .collect::<Result<_, _>>()?,
        },
        retired: table.flag("retired")?,
        payload: payload::read(&mut table, lines)?,
    };
    table.end()?;
    Ok((name, contract))
}

/// The line of the first mark that git leaves in a file that it could not merge.
fn conflict(text: &str) -> Option<usize> {
    let is_mark = |line: &str| {
        ["<<<<<<< ", ">>>>>>> ", "||||||| "].iter().any(|mark| line.starts_with(mark))
            || line == "======="
    };
    text.lines().position(is_mark).map(|index| index + 1)
}

/// A text, and where its lines begin.
pub(crate) struct Source {
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        Self { lines: text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    /// From 1.
    pub(crate) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.lines.partition_point(|end| *end < span.start)
    }

    pub(crate) fn error(&self, value: &Spanned<DeValue<'_>>, what: impl Into<String>) -> LockError {
        LockError::new(self.line(&value.span()), what)
    }
}

/// A table of which each key must be known.
pub(crate) struct Table<'a, 'i> {
    pub(super) source: &'a Source,
    table: &'a DeTable<'i>,
    span: Range<usize>,
    known: Vec<&'static str>,
    /// What the file is called that has no other keys.
    file: &'static str,
}

impl<'a, 'i> Table<'a, 'i> {
    pub(crate) fn new(source: &'a Source, table: &'a DeTable<'i>, span: Range<usize>) -> Self {
        Self { source, table, span, known: Vec::new(), file: "a lock" }
    }

    /// The same, of another file than a lock.
    pub(crate) fn of(self, file: &'static str) -> Self {
        Self { file, ..self }
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) -> LockError {
        LockError::new(self.source.line(&self.span), what)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&'a str, usize)> + use<'a, 'i> {
        let source = self.source;
        self.table.iter().map(move |(key, _)| (&**key.get_ref(), source.line(&key.span())))
    }

    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.table.get(key)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, LockError> {
        let source = self.source;
        self.take(key).map(|value| text(source, value).map(str::to_owned)).transpose()
    }

    fn required_text(&mut self, key: &'static str) -> Result<String, LockError> {
        self.text(key)?.ok_or_else(|| self.wrong(format!("`{key}` is missing")))
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Result<Vec<String>, LockError> {
        let source = self.source;
        let Some(values) = self.take(key) else { return Ok(Vec::new()) };
        let texts = array(source, values)?.iter().map(|value| text(source, value));
        texts.map(|text| text.map(str::to_owned)).collect()
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<bool, LockError> {
        match self.take(key) {
            None => Ok(false),
            Some(value) => match value.get_ref() {
                DeValue::Boolean(flag) => Ok(*flag),
                _ => Err(self.source.error(value, format!("`{key}` is true or false"))),
            },
        }
    }

    fn mode(&mut self) -> Result<Option<Mode>, LockError> {
        let Some(value) = self.take("mode") else { return Ok(None) };
        let mode = text(self.source, value)?.parse();
        mode.map(Some)
            .map_err(|error: crate::UnknownMode| self.source.error(value, error.to_string()))
    }

    /// That no other key is there.
    pub(crate) fn end(self) -> Result<(), LockError> {
        match self.table.iter().find(|(key, _)| !self.known.contains(&&**key.get_ref())) {
            None => Ok(()),
            Some((key, _)) => Err(LockError::new(
                self.source.line(&key.span()),
                format!("{} has no key `{}` here", self.file, key.get_ref().escape_debug()),
            )),
        }
    }
}

pub(crate) fn table<'a, 'i>(
    source: &Source,
    value: &'a Spanned<DeValue<'i>>,
) -> Result<&'a DeTable<'i>, LockError> {
    match value.get_ref() {
        DeValue::Table(table) => Ok(table),
        _ => Err(source.error(value, "a table belongs here")),
    }
}

fn array<'a, 'i>(
    source: &Source,
    value: &'a Spanned<DeValue<'i>>,
) -> Result<&'a [Spanned<DeValue<'i>>], LockError> {
    match value.get_ref() {
        DeValue::Array(values) => Ok(values),
        _ => Err(source.error(value, "a list belongs here")),
    }
}

pub(crate) fn text<'a>(
    source: &Source,
    value: &'a Spanned<DeValue<'_>>,
) -> Result<&'a str, LockError> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        _ => Err(source.error(value, "a text belongs here")),
    }
}

pub(crate) fn integer(source: &Source, value: &Spanned<DeValue<'_>>) -> Result<i64, LockError> {
    let number = match value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| source.error(value, "a whole number belongs here"))
}

/// The number of a version.
fn number(source: &Source, value: &Spanned<DeValue<'_>>) -> Result<u32, LockError> {
    let number =
        i32::try_from(integer(source, value)?).ok().and_then(|number| u32::try_from(number).ok());
    match number {
        Some(number) if number > 0 => Ok(number),
        _ => Err(source.error(value, "the version of an event is from 1 to 2147483647")),
    }
}
