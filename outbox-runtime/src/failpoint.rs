//! Named places at which a crash is most dangerous: `tests/failpoints.rs` kills a relay at each.

/// Ends the process if `OUTBOX_FAILPOINT` names this place, as a crash does: no destructor runs,
/// nothing is flushed.
#[cfg(feature = "_failpoints")]
pub(crate) fn failpoint(name: &str) {
    if std::env::var_os("OUTBOX_FAILPOINT").is_some_and(|chosen| chosen == name) {
        std::process::abort();
    }
}

#[cfg(not(feature = "_failpoints"))]
pub(crate) fn failpoint(_: &str) {}
