//! A bar on the terminal for what takes long.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use outbox::consume::Progress;

const REDRAWN_EVERY: Duration = Duration::from_millis(100);

/// Waits for something, and shows how far it is: on stderr if that is a terminal, and nowhere else.
pub async fn shown<T>(what: &'static str, progress: &Progress, done: impl Future<Output = T>) -> T {
    counted(what, || (progress.done(), progress.total()), done).await
}

/// The same, by what `count` returns: how much is done, and of how much.
pub async fn counted<T>(
    what: &'static str,
    count: impl Fn() -> (u64, u64),
    done: impl Future<Output = T>,
) -> T {
    let mut done = pin!(done);
    let bar = bar(what);
    let mut tick = tokio::time::interval(REDRAWN_EVERY);
    let done = loop {
        tokio::select! {
            done = &mut done => break done,
            _ = tick.tick() => {
                let (now, of) = count();
                bar.set_length(of);
                bar.set_position(now);
            }
        }
    };
    bar.finish_and_clear();
    done
}

fn bar(what: &'static str) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    let style = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.with_message(what)
}
