//! Asked to stop: by SIGTERM, as an orchestrator asks, or by SIGINT, from a terminal.

use std::io;

use tokio::sync::watch;

use crate::failure::Failure;

/// Whether this process was asked to stop.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens from now on. The first signal asks to stop; a second one ends the process at once.
    pub fn listen() -> Result<Self, Failure> {
        let (asked, stop) = watch::channel(false);
        let mut signals = Signals::new().map_err(|error| {
            Failure::failed(format!("cannot listen for signals, and nothing was started: {error}"))
        })?;
        tokio::spawn(async move {
            let _ = signals.next().await;
            // All receivers may be gone: then nothing waits any more.
            let _ = asked.send(true);
            let number = signals.next().await;
            std::process::exit(128 + number);
        });
        Ok(Self(stop))
    }

    /// Resolves when it was asked to stop.
    pub async fn asked(&self) {
        // The sender lives as long as the process.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> i32 {
        let _ = tokio::signal::ctrl_c().await;
        2
    }
}
