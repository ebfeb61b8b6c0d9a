//! Clients of librdkafka that are closed on a thread of their own.

use crate::observe::target;

use std::ops::Deref;
use std::thread;

use tokio::sync::oneshot;

/// A client of librdkafka. Closing it talks to brokers and joins threads; without brokers, closing
/// a consumer takes until its session times out. So it is closed on a thread of its own, also if a
/// task is aborted or a runtime is dropped.
#[derive(Debug)]
pub(crate) struct Client<C: Send + 'static>(Option<C>);

impl<C: Send + 'static> Client<C> {
    pub(crate) fn new(client: C) -> Self {
        Self(Some(client))
    }

    /// Closes it now. The receiver resolves when that is done.
    pub(crate) fn close(mut self) -> oneshot::Receiver<()> {
        let client = self.0.take();
        aside("outbox-kafka-close", move || drop(client))
    }
}

impl<C: Send + 'static> Drop for Client<C> {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(aside("outbox-kafka-close", move || drop(client)));
        }
    }
}

impl<C: Send + 'static> Deref for Client<C> {
    type Target = C;

    #[allow(clippy::expect_used)] // only its end takes it out
    fn deref(&self) -> &C {
        self.0.as_ref().expect("a client that has not ended")
    }
}

/// Runs a blocking call on a thread that no runtime waits for. If no thread can be started, or
/// `blocks` panics, the sender is dropped.
pub(crate) fn aside<T: Send + 'static>(
    name: &str,
    blocks: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (result, receiver) = oneshot::channel();
    let ran = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = result.send(blocks());
    });
    if let Err(error) = ran {
        tracing::warn!(target: target::KAFKA, %error, "no thread could be started");
    }
    receiver
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A client whose end waits until the gate is opened.
    struct Gated(mpsc::Receiver<()>, mpsc::Sender<thread::ThreadId>);

    impl Drop for Gated {
        fn drop(&mut self) {
            let _ = self.0.recv();
            let _ = self.1.send(thread::current().id());
        }
    }

    #[test]
    fn a_client_ends_on_a_thread_of_its_own() {
        let (open, gate) = mpsc::channel();
        let (ended, on) = mpsc::channel();
        drop(Client::new(Gated(gate, ended))); // would never return
        open.send(()).unwrap();
        assert_ne!(on.recv().unwrap(), thread::current().id());
    }
}
