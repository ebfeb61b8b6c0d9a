//! Log lines, on stderr.

use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};

use crate::args::LogFormat;
use crate::context::Context;
use crate::spans::SpanLayer;

/// The levels, from none to all.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// Writes log lines from now on: those of `level`, or more or less by `-v` and `-q`. If `RUST_LOG`
/// is set, it decides.
///
/// Spans go to `spans` alone: each layer has its own filter.
pub fn install(context: &Context, level: LevelFilter, spans: SpanLayer) {
    let level = shifted(level, context.verbosity);
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::new(directives),
        // librdkafka repeats itself. The spans of the outbox would precede each line.
        _ => EnvFilter::new(format!(
            "{level},librdkafka=off,sqlx=warn,rdkafka=off,outbox::trace=off"
        )),
    };
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match context.settings.log_format.value {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => {
            let colored = context.output.color.is_on(io::stderr().is_terminal());
            lines.with_ansi(colored).boxed()
        }
    };
    // Nothing else of this process can have installed one.
    let lines = lines.with_filter(filter);
    let _ = tracing_subscriber::registry().with(spans).with(lines).try_init();
}

fn shifted(level: LevelFilter, by: i16) -> LevelFilter {
    let at = LEVELS.iter().position(|known| *known == level).unwrap_or_default();
    let last = LEVELS.len() - 1;
    LEVELS[at.saturating_add_signed(by.into()).min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_and_less_end_at_all_and_at_nothing() {
        assert_eq!(shifted(LevelFilter::WARN, 1), LevelFilter::INFO);
        assert_eq!(shifted(LevelFilter::WARN, 9), LevelFilter::TRACE);
        assert_eq!(shifted(LevelFilter::WARN, -1), LevelFilter::ERROR);
        assert_eq!(shifted(LevelFilter::WARN, -9), LevelFilter::OFF);
    }
}
