//! Topics, names and content types: few texts, which every row repeats.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// Most texts that are kept, for the life of the process: with [`LONGEST`] each, 0.25 MiB.
const MOST: usize = 1024;
const LONGEST: usize = 255;

static KEPT: RwLock<Option<HashSet<&'static str>>> = RwLock::new(None);

/// A column whose texts repeat. It knows the last one, which most rows repeat.
#[derive(Default)]
pub(super) struct Repeated(Cell<&'static str>);

impl Repeated {
    /// The text, not copied if it was met before.
    pub(super) fn text(&self, text: &str) -> Cow<'static, str> {
        if self.0.get() == text {
            return Cow::Borrowed(self.0.get());
        }
        match kept(text) {
            Some(kept) => {
                self.0.set(kept);
                Cow::Borrowed(kept)
            }
            None => Cow::Owned(text.to_owned()),
        }
    }
}

/// The kept text that is equal. `None`: it is too long, or there are too many others.
fn kept(text: &str) -> Option<&'static str> {
    if text.len() > LONGEST {
        return None;
    }
    let found = |texts: &Option<HashSet<&'static str>>| {
        let texts = texts.as_ref()?;
        Some((texts.get(text).copied(), texts.len()))
    };
    match found(&KEPT.read().unwrap_or_else(PoisonError::into_inner)) {
        Some((Some(kept), _)) => return Some(kept),
        Some((None, MOST..)) => return None,
        _ => {}
    }
    let mut texts = KEPT.write().unwrap_or_else(PoisonError::into_inner);
    let texts = texts.get_or_insert_default();
    if let Some(kept) = texts.get(text) {
        return Some(kept);
    }
    if texts.len() >= MOST {
        return None;
    }
    let kept: &'static str = Box::leak(text.into());
    texts.insert(kept);
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_was_met_before_is_not_copied_and_a_long_one_or_one_too_many_is_not_kept() {
        let column = Repeated::default();
        let text = |text: &str| column.text(text);
        let is_kept = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
        let (first, again) = (text("orders"), text("orders"));
        assert!(is_kept(&first) && first.as_ptr() == again.as_ptr());
        assert_eq!(Repeated::default().text("orders").as_ptr(), first.as_ptr());
        assert_eq!(text(""), "");
        let long = "x".repeat(LONGEST + 1);
        assert!(!is_kept(&text(&long)) && text(&long) == long);
        let more = (0..MOST * 2).map(|i| format!("more than are kept {i}"));
        let kept = more.filter(|more| {
            let read = text(more);
            assert_eq!(read, *more);
            is_kept(&read)
        });
        assert!(kept.count() <= MOST);
        assert!(is_kept(&text("orders")), "those that are kept stay");
    }
}
