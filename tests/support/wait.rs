//! How a test waits: for a state, with a bound that fails it, and never for a time.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

/// Between two questions: often enough for a test, and rarely enough for the machine.
const PAUSE: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_secs(60);
/// A bound, for a machine that runs many tests at once and something else beside them.
const PATIENCE: Duration = Duration::from_secs(180);

/// `future`, or a failure of the test if it takes a minute: a bound, never a measure.
pub async fn within_a_minute<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(MINUTE, future).await.expect("no answer within a minute")
}

/// Polls a future once and gives it up.
pub fn given_up<F: Future>(future: F) {
    let future = pin!(future);
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Asks until it is so. After three minutes the test fails, and says `what` it waited for.
pub async fn eventually<F>(what: &str, mut is_so: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let answer = || {
        let is_so = is_so();
        async { is_so.await.then_some(()) }
    };
    eventually_some(what, answer).await;
}

/// Asks until there is an answer. After three minutes the test fails, and says `what` it waited
/// for.
pub async fn eventually_some<T, F>(what: &str, ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    within(PATIENCE, what, ask).await
}

/// As [`eventually_some`], for what may take longer still.
pub async fn within<T, F>(bound: Duration, what: &str, ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let answer = try_within(bound, ask).await;
    answer.unwrap_or_else(|| panic!("not within {} s: {what}", bound.as_secs()))
}

/// As [`within`], with `None` instead of a failure.
pub async fn try_within<T, F>(bound: Duration, mut ask: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let answer = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(bound, answer).await.ok()
}
