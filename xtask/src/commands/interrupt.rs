//! Ctrl-C, as a question.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::Error;

/// Ctrl-C or SIGTERM.
pub(super) struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// The first signal is remembered. The second one ends this process at once; the watchdogs then
    /// kill what it has started.
    pub(super) fn listen() -> Result<Self, Error> {
        let signal = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            let value = usize::try_from(number).unwrap_or(0);
            signal_hook::flag::register_conditional_shutdown(
                number,
                128 + number,
                Arc::clone(&again),
            )
            .and_then(|_| signal_hook::flag::register(number, Arc::clone(&again)))
            .and_then(|_| signal_hook::flag::register_usize(number, Arc::clone(&signal), value))
            .map_err(|error| Error::io("listen for Ctrl-C", error))?;
        }
        Ok(Self { signal })
    }

    pub(super) fn received(&self) -> Option<i32> {
        i32::try_from(self.signal.load(Ordering::Relaxed)).ok().filter(|signal| *signal != 0)
    }
}
