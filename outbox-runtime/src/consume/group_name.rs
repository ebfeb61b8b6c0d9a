//! Which consumer group handlers belong to.

use std::collections::BTreeSet;

use crate::error::OutboxError;

/// The group that was `chosen` at run time, or else the one that the handlers name themselves.
///
/// # Errors
/// If there is none, or if the handlers name several: the one that was chosen could replace only
/// one of them.
pub(crate) fn group_name(
    chosen: Option<&str>,
    handlers: impl Iterator<Item = Option<&'static str>>,
) -> Result<String, OutboxError> {
    let named: BTreeSet<&str> = handlers.flatten().collect();
    if named.len() > 1 {
        let named = named.into_iter().collect::<Vec<_>>().join(", ");
        return Err(OutboxError::config(format!(
            "a consumer has one group, and its handlers name these: {named}. Each group gets every event: make a consumer for each. \
             `.group(…)` replaces the name of one group, and merges none"
        )));
    }
    match chosen.or_else(|| named.into_iter().next()) {
        Some(group) if !group.trim().is_empty() => Ok(group.to_owned()),
        _ => Err(OutboxError::config(
            "a consumer needs a group: what it has handled is remembered by group. Name it with `.group(…)` or on the handlers",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(chosen: Option<&str>, named: &[Option<&'static str>]) -> Result<String, OutboxError> {
        group_name(chosen, named.iter().copied())
    }

    #[test]
    fn the_group_that_is_chosen_at_run_time_replaces_the_one_that_handlers_name() {
        assert_eq!(of(None, &[None, Some("shop"), Some("shop")]).unwrap(), "shop");
        assert_eq!(of(Some("e2e-1"), &[None, Some("shop")]).unwrap(), "e2e-1");
        assert_eq!(of(Some("e2e-1"), &[None]).unwrap(), "e2e-1");
    }

    #[test]
    fn no_group_a_blank_one_and_several_are_refused() {
        for (chosen, named) in
            [(None, &[None][..]), (Some(" "), &[Some("shop")]), (None, &[Some("")])]
        {
            let error = of(chosen, named).unwrap_err().to_string();
            assert!(error.contains("needs a group"), "{error}");
        }
        for chosen in [None, Some("e2e-1")] {
            let error = of(chosen, &[Some("shop"), Some("mails")]).unwrap_err().to_string();
            assert!(
                error.contains("mails, shop") && error.contains("a consumer for each"),
                "{error}"
            );
        }
    }
}
