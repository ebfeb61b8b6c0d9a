//! Writes to stdout on a thread of its own: a reader that does not read keeps it waiting, and nothing
//! else.

use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use crate::failure::Failure;

/// Lines that wait to be written.
const LINES: usize = 64;

pub struct Printer {
    lines: Option<mpsc::Sender<String>>,
    ended: oneshot::Receiver<io::Result<()>>,
    stopped: Arc<Notify>,
}

impl Printer {
    pub fn start() -> Self {
        let (lines, to_write) = mpsc::channel(LINES);
        let (tell, ended) = oneshot::channel();
        let stopped = Arc::new(Notify::new());
        let stops = Arc::clone(&stopped);
        std::thread::spawn(move || {
            let _ = tell.send(write(to_write));
            stops.notify_one();
        });
        Self { lines: Some(lines), ended, stopped }
    }

    /// Resolves when nothing more can be written: the reader is gone, or the disk is full.
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let stopped = Arc::clone(&self.stopped);
        async move { stopped.notified().await }
    }

    /// Prints lines. It waits while others wait to be written.
    pub async fn print(&mut self, lines: String) -> Result<(), Failure> {
        let Some(sender) = &self.lines else { return Ok(()) };
        match sender.send(lines).await {
            Ok(()) => Ok(()),
            Err(_) => self.finish().await,
        }
    }

    /// Waits until all is written, and says whether it was.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        if self.lines.take().is_none() {
            return Ok(());
        }
        let ended = (&mut self.ended).await;
        Ok(ended.unwrap_or(Err(io::Error::from(io::ErrorKind::BrokenPipe)))?)
    }
}

fn write(mut lines: mpsc::Receiver<String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    while let Some(line) = lines.blocking_recv() {
        out.write_all(line.as_bytes())?;
        // Those that wait are written first: a burst takes few writes.
        while let Ok(line) = lines.try_recv() {
            out.write_all(line.as_bytes())?;
        }
        out.flush()?;
    }
    Ok(())
}
