//! Several futures at the same time, in an order that a seed decides.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::testing::awaits::{Ended, Stepped};
use crate::testing::seed::Random;

/// Time after which a future whose turn it is has to wait for another one, for a lock it may be.
const LONGEST_TURN: Duration = Duration::from_millis(50);

/// How a future ended, and how many times it had waited.
pub(super) struct Done<T> {
    pub(super) ended: Ended<T>,
    pub(super) awaits: u32,
}

/// A future among others.
struct One<F: Future> {
    /// `None`: it ended, or was given up.
    running: Option<Stepped<F>>,
    woken: Arc<Woken>,
    /// Whether it was not woken in its turn. It gets none before it is.
    blocked: bool,
    done: Option<Done<F::Output>>,
}

/// Whether a future has been woken, and who polls it.
#[derive(Default)]
struct Woken {
    flag: AtomicBool,
    by: Mutex<Option<Waker>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        let waker = self.by.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<F: Future> One<F> {
    fn new(future: Stepped<F>) -> Self {
        let woken = Arc::<Woken>::default();
        woken.flag.store(true, Ordering::Release);
        Self { running: Some(future), woken, blocked: false, done: None }
    }

    fn is_woken(&self) -> bool {
        self.woken.flag.load(Ordering::Acquire)
    }

    /// Polls it once. One that is given up is dropped at once.
    fn step(&mut self) {
        let Some(future) = &mut self.running else { return };
        self.woken.flag.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.woken));
        let step = future.step(&mut Context::from_waker(&waker));
        let awaits = future.awaits();
        if let Poll::Ready(ended) = step {
            self.running = None;
            self.done = Some(Done { ended, awaits });
        }
    }
}

/// Runs all of them, one step of one of them at a time.
pub(super) async fn together<F: Future>(
    futures: Vec<Stepped<F>>,
    random: &mut Random,
) -> Vec<Done<F::Output>> {
    let mut all: Vec<One<F>> = futures.into_iter().map(One::new).collect();
    let mut turn = None;
    let mut turn_is_over = pin!(sleep(LONGEST_TURN));
    poll_fn(|context| {
        for one in &mut all {
            let waker = Some(context.waker().clone());
            *one.woken.by.lock().unwrap_or_else(PoisonError::into_inner) = waker;
            one.blocked &= !one.is_woken();
        }
        loop {
            if all.iter().all(|one| one.running.is_none()) {
                return Poll::Ready(());
            }
            let now = match turn {
                Some(now) => now,
                None => {
                    let Some(next) = next_turn(&all, random) else { return Poll::Pending };
                    turn_is_over.as_mut().reset(Instant::now() + LONGEST_TURN);
                    turn = Some(next);
                    next
                }
            };
            if all[now].is_woken() {
                all[now].step();
                turn = None;
                // What it has started gets to run before the next step.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if turn_is_over.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            all[now].blocked = true;
            turn = None;
        }
    })
    .await;
    all.into_iter().filter_map(|one| one.done).collect()
}

/// Whose turn it is. `None`: all wait for something outside.
fn next_turn<F: Future>(all: &[One<F>], random: &mut Random) -> Option<usize> {
    let open = |one: &One<F>| one.running.is_some() && !one.blocked;
    let open: Vec<usize> = (0..all.len()).filter(|one| open(&all[*one])).collect();
    (!open.is_empty()).then(|| open[random.below(open.len())])
}
