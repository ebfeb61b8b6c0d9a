//! What a program's log says.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt};

/// The warnings and errors that a user's log shows: of all tests of a program, since librdkafka
/// speaks on a thread of its own. `RUST_LOG=outbox_runtime=debug` shows what a failing test did.
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn of_this_program() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let lines = Arc::<Mutex<Vec<u8>>>::default();
            let writer = Arc::clone(&lines);
            let kept = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(move || Writer(Arc::clone(&writer)))
                .with_filter(LevelFilter::WARN);
            let shown = tracing_subscriber::fmt::layer()
                .with_test_writer()
                .with_filter(EnvFilter::from_default_env());
            let subscriber = tracing_subscriber::registry().with(kept).with(shown);
            tracing::subscriber::set_global_default(subscriber).expect("the first");
            Self(lines)
        })
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
        let says = async {
            while self.lines(words).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await; // between two looks
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(60), says).await;
        assert!(
            said.is_ok(),
            "the log does not say {words:?} within a minute: {:#?}",
            self.lines(&[])
        );
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
