//! What a log says.

use std::sync::{Arc, Mutex, OnceLock};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt};

use super::wait::eventually;

/// The lines that are written to a log.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The warnings and errors of all tests of this program: those of librdkafka, too, which speaks
    /// on a thread of its own. Search it only for words that one test alone can cause.
    ///
    /// `RUST_LOG=outbox=debug` shows what a failing test did.
    pub fn of_this_program() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let kept = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(log.writer())
                .with_filter(LevelFilter::WARN);
            let shown = tracing_subscriber::fmt::layer()
                .with_test_writer()
                .with_filter(EnvFilter::from_default_env());
            let subscriber = tracing_subscriber::registry().with(kept).with(shown);
            tracing::subscriber::set_global_default(subscriber).expect("the first");
            log
        })
    }

    /// What this thread says from now on, until the second value is dropped. In a test on one
    /// thread, that is all but the words of librdkafka.
    pub fn of_this_thread(filter: &str) -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(log.writer())
            .with_env_filter(filter)
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(super) fn writer(&self) -> impl Fn() -> Writer + Send + Sync + 'static {
        let log = self.clone();
        move || Writer(log.clone())
    }

    /// The lines that have all of `words`.
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .map(str::to_owned)
            .collect()
    }

    pub async fn until_it_says(&self, words: &[&str]) {
        let says = async || !self.lines(words).is_empty();
        eventually(&format!("the log says {words:?}"), says).await;
    }
}

pub(super) struct Writer(Log);

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
