//! Dead letters that are read one after the other, in bounded memory.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use rdkafka::error::KafkaError;
use tokio::sync::mpsc;

use super::DeadLetters;
use super::letter::{DeadLetter, RESOLVED};
use super::read::{Reader, Stopper};
use super::selection::Selection;
use crate::consume::kafka::records::owned;
use crate::error::OutboxError;
use crate::kafka::aside;

/// Bytes of the dead letters that are handed over together.
const BYTES: usize = 1 << 20;
/// Dead letters that are handed over together.
const LETTERS: usize = 256;
/// Groups of them that are read ahead.
const AHEAD: usize = 2;

/// Those that were read. An empty group is the end: without it, the reading has failed.
type Group = Result<VecDeque<DeadLetter>, KafkaError>;

/// Dead letters by partition and offset, read while they are asked for: a few megabytes ahead, and
/// no more. Dropped, it stops reading.
#[derive(Debug)]
pub struct DeadLetterStream {
    of: DeadLetters,
    /// Read, and not asked for yet.
    read: VecDeque<DeadLetter>,
    more: Option<mpsc::Receiver<Group>>,
    _stopper: Stopper,
}

impl DeadLetterStream {
    pub(super) fn new(of: &DeadLetters, selection: Selection) -> Self {
        let stopper = Stopper::default();
        let (sender, more) = mpsc::channel(AHEAD);
        let (properties, group) = (of.properties.clone(), of.group.clone());
        let (topic, stopped) = (of.dead_letter_topic(), stopper.flag());
        let brokers = of.brokers.clone();
        drop(aside("outbox-kafka-dlt", move || {
            let reader = Reader::connect(&properties, brokers, (topic, &group), stopped);
            let result = reader.and_then(|reader| hand_over(&reader, &selection, &sender));
            let _ = sender.blocking_send(result.map(|()| VecDeque::new()));
        }));
        Self { of: of.clone(), read: VecDeque::new(), more: Some(more), _stopper: stopper }
    }

    /// The next one. `None`: there are no more.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses. Then there are no more.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, OutboxError> {
        if self.read.is_empty()
            && let Some(more) = &mut self.more
        {
            let group = more.recv().await.unwrap_or(Err(KafkaError::Canceled));
            if !group.as_ref().is_ok_and(|group| !group.is_empty()) {
                self.more = None;
            }
            self.read = group.map_err(|error| self.of.failed("read", error))?;
        }
        Ok(self.read.pop_front())
    }
}

/// Hands over the dead letters in groups, as fast as they are asked for.
fn hand_over(
    reader: &Reader,
    selection: &Selection,
    sender: &mpsc::Sender<Group>,
) -> Result<(), KafkaError> {
    let (mut group, mut bytes) = (VecDeque::new(), 0);
    let send = |group: &mut VecDeque<DeadLetter>| {
        let group = std::mem::take(group);
        if group.is_empty() || sender.blocking_send(Ok(group)).is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    reader.read(selection, |message| {
        let message = owned(message);
        // It says what became of another one.
        if message.has_header(RESOLVED) {
            return ControlFlow::Continue(());
        }
        let letter = DeadLetter::from(message);
        bytes += letter.bytes();
        group.push_back(letter);
        if group.len() < LETTERS && bytes < BYTES {
            return ControlFlow::Continue(());
        }
        bytes = 0;
        send(&mut group)
    })?;
    let _ = send(&mut group);
    Ok(())
}
