//! `outbox dead-letters count`.

use std::collections::HashMap;

use outbox::consume::{DeadLetter, DeadLetters, Progress};
use serde::Serialize;

use super::args::{By, Filter};
use super::select;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::progress::shown;
use crate::text;

/// Kinds that are counted apart. What is of none of them counts as `others`.
const KINDS: usize = 1_000;
const LONGEST_VALUE: usize = 200;

#[derive(Serialize)]
struct Count {
    count: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Kind {
    /// `null`: the others.
    value: Option<String>,
    count: u64,
}

impl Row for Kind {
    const COLUMNS: &'static [&'static str] = &["COUNT", "OF"];

    fn cells(&self) -> Vec<String> {
        let value = self.value.as_deref().map_or_else(|| "others".to_owned(), text::one_line);
        vec![self.count.to_string(), value]
    }
}

pub async fn run(
    dead_letters: &DeadLetters,
    filter: &Filter,
    by: Option<By>,
    context: &Context,
) -> Result<(), Failure> {
    let found = select(dead_letters, filter.to_filter()).await?;
    let Some(by) = by else {
        let count = Count { count: found.len() };
        return context.output.one(&count, || count.count.to_string());
    };
    let (progress, mut kinds) = (Progress::of(found.len()), Kinds::default());
    let mut letters = dead_letters.read(&found);
    let counted = async {
        while let Some(letter) = letters.next().await? {
            kinds.count(by.value(&letter));
            progress.add(1);
        }
        Ok::<_, Failure>(())
    };
    shown("counting", &progress, counted).await?;
    context.output.list(kinds.into_rows())
}

impl By {
    fn value(self, letter: &DeadLetter) -> String {
        let value = match self {
            Self::Class => letter.error_class.clone(),
            Self::Error => letter.error.lines().next().unwrap_or_default().to_owned(),
            Self::Name => letter.name.clone().unwrap_or_default(),
            Self::Key => letter.key.as_deref().map(text::readable).unwrap_or_default(),
        };
        text::shortened(&value, LONGEST_VALUE)
    }
}

#[derive(Default)]
struct Kinds {
    known: HashMap<String, u64>,
    others: u64,
}

impl Kinds {
    fn count(&mut self, value: String) {
        let room = self.known.len() < KINDS;
        match self.known.get_mut(&value) {
            Some(count) => *count += 1,
            None if room => _ = self.known.insert(value, 1),
            None => self.others += 1,
        }
    }

    /// The most frequent first, then by name, and the others last.
    fn into_rows(self) -> Vec<Kind> {
        let known = self.known.into_iter().map(|(value, count)| Kind { value: Some(value), count });
        let mut rows: Vec<Kind> = known.collect();
        rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        rows.extend((self.others > 0).then_some(Kind { value: None, count: self.others }));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_in_bounded_memory_the_most_frequent_first() {
        let mut kinds = Kinds::default();
        for n in 0..KINDS + 50 {
            kinds.count(format!("{n:04}"));
            kinds.count("0007".to_owned());
        }
        let rows = kinds.into_rows();
        assert_eq!(rows.len(), KINDS + 1);
        assert_eq!(rows[0], Kind { value: Some("0007".to_owned()), count: KINDS as u64 + 51 });
        assert_eq!(rows[1], Kind { value: Some("0000".to_owned()), count: 1 });
        assert_eq!(rows[KINDS], Kind { value: None, count: 50 });
    }
}
