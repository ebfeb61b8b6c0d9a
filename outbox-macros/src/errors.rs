//! All mistakes of an item are collected and reported at once.

use std::cell::RefCell;
use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// Collects the errors of one item. They are taken with [`into_vec`](Self::into_vec); dropping a
/// collector which was never asked would lose them, and is a bug of ours.
pub(crate) struct Errors(RefCell<Option<Vec<syn::Error>>>);

impl Errors {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(Some(Vec::new())))
    }

    pub(crate) fn push(&self, error: syn::Error) {
        if let Some(errors) = self.0.borrow_mut().as_mut() {
            errors.push(error);
        }
    }

    /// An error at one token.
    pub(crate) fn at(&self, span: Span, message: impl Display) {
        self.push(syn::Error::new(span, message));
    }

    /// An error which underlines all of `tokens`.
    pub(crate) fn over(&self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Keeps the value, collects the error.
    pub(crate) fn ok<T>(&self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().as_ref().is_none_or(Vec::is_empty)
    }

    pub(crate) fn into_vec(self) -> Vec<syn::Error> {
        self.0.borrow_mut().take().unwrap_or_default()
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        debug_assert!(
            std::thread::panicking() || self.0.borrow().is_none(),
            "a macro forgot to report the errors it collected"
        );
    }
}

/// `compile_error!`s for places where items are expected.
pub(crate) fn to_tokens(errors: &[syn::Error]) -> TokenStream {
    errors.iter().map(syn::Error::to_compile_error).collect()
}

/// The nearest known word, and the text to help with: that word, or all of them.
///
/// A "nearest" further away than a third of its letters would be a guess.
pub(crate) fn suggestion(unknown: &str, known: &[&'static str]) -> (Option<&'static str>, String) {
    let nearest = known
        .iter()
        .map(|word| (edit_distance(unknown, word), *word))
        .filter(|(distance, word)| *distance <= 1.max(word.len() / 3))
        .min();
    match nearest {
        Some((_, word)) => (Some(word), format!("help: did you mean `{word}`?")),
        None => {
            let all: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
            (None, format!("help: known here: {}", all.join(", ")))
        }
    }
}

/// Insertions, deletions, replacements, and swaps of neighbours, each counting one.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_is_suggested_and_a_far_one_is_not() {
        let known = ["topic", "name"];
        for typo in ["topik", "tpoic", "topics", "opic"] {
            assert_eq!(
                suggestion(typo, &known),
                (Some("topic"), "help: did you mean `topic`?".to_owned())
            );
        }
        assert_eq!(
            suggestion("partition", &known),
            (None, "help: known here: `topic`, `name`".to_owned())
        );
    }
}
