//! Ids of things in a document, made from names that may have anything in them.

use std::collections::BTreeSet;

use crate::lock::EventName;

/// Ids, each given once: letters, digits, `.`, `-` and `_`, as AsyncAPI allows and links have.
#[derive(Debug, Default)]
pub(crate) struct Ids(BTreeSet<String>);

impl Ids {
    pub(crate) fn of_event(&mut self, EventName { topic, name, version }: &EventName) -> String {
        self.new_id(&format!("{topic}.{name}.v{version}"))
    }

    pub(crate) fn new_id(&mut self, text: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let plain: String = text.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        let (mut id, mut number) = (plain.clone(), 1);
        while !self.0.insert(id.clone()) {
            number += 1;
            id = format!("{plain}-{number}");
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_have_ids_that_differ() {
        let mut ids = Ids::default();
        assert_eq!(ids.new_id("order placed"), "order_placed");
        assert_eq!(ids.new_id("order/placed"), "order_placed-2");
        assert_eq!(ids.new_id("order_placed"), "order_placed-3");
    }
}
