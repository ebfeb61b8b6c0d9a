//! A future that is polled in small steps, and given up at one of its awaits.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::task::coop;

use crate::user_code::caught;

/// A future of the user's, as far as it has come.
pub(in crate::testing) struct Stepped<F> {
    /// `None`: it ended.
    future: Option<Pin<Box<F>>>,
    /// Times that it waited.
    awaits: u32,
    /// Number of the await at which it is given up, from 1. `None`: it runs to its end.
    give_up_at: Option<u32>,
    /// Set while it is polled.
    polling: Arc<AtomicBool>,
}

/// How a future ended.
#[derive(Debug)]
pub(in crate::testing) enum Ended<T> {
    With(T),
    GivenUp,
    Panicked(String),
}

impl<F: Future> Stepped<F> {
    pub(in crate::testing) fn new(
        future: F,
        give_up_at: Option<u32>,
        polling: Arc<AtomicBool>,
    ) -> Self {
        Self { future: Some(Box::pin(future)), awaits: 0, give_up_at, polling }
    }

    /// Times that it waited so far.
    pub(in crate::testing) fn awaits(&self) -> u32 {
        self.awaits
    }

    /// Polls it once. [`Ended::GivenUp`]: it waits, and this is the await; drop it.
    pub(in crate::testing) fn step(&mut self, context: &mut Context<'_>) -> Poll<Ended<F::Output>> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        one_operation();
        self.polling.store(true, Ordering::Release);
        let polled = caught(|| future.as_mut().poll(context));
        self.polling.store(false, Ordering::Release);
        let ended = match polled {
            Ok(Poll::Ready(value)) => Ended::With(value),
            Err(said) => Ended::Panicked(said),
            Ok(Poll::Pending) => {
                self.awaits += 1;
                return if self.give_up_at == Some(self.awaits) {
                    Poll::Ready(Ended::GivenUp)
                } else {
                    Poll::Pending
                };
            }
        };
        self.future = None;
        Poll::Ready(ended)
    }
}

/// Leaves the running task one operation of its budget, after which tokio has it wait. So a future
/// waits at each operation on a lock, a channel or a socket, also at those that could go on at
/// once, as they cannot always.
fn one_operation() {
    /// More than the budget of a task. Outside of one there is no budget, and no end to it.
    const ENOUGH: u32 = 256;
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..ENOUGH {
        let Poll::Ready(unit) = coop::poll_proceed(&mut context) else { return };
        if !coop::has_budget_remaining() {
            return; // dropped, the last unit is given back
        }
        unit.made_progress();
    }
}
