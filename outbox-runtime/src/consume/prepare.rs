//! What a handler gets is read before its transaction begins.

use super::attempt::Failure;
use super::context::EventContext;
use super::erased::Decoded;
use super::options::HandlerOptions;
use super::route::{Incoming, Route};
use super::schema_id::framed;
use crate::store::OutboxDatabase;
use crate::user_code::caught;

/// A message that can be handled.
pub(super) struct Prepared<'g, DB: OutboxDatabase> {
    pub(super) options: &'g HandlerOptions,
    pub(super) context: EventContext,
    pub(super) event: Box<dyn Decoded<DB> + 'g>,
}

/// Reads the event of a message. `None`: no handler takes it.
pub(super) fn prepare<'m, DB: OutboxDatabase>(
    incoming: &Incoming<'m, DB>,
) -> Result<Option<Prepared<'m, DB>>, Failure> {
    let message = incoming.message;
    let (handler, named) = match incoming.route {
        Route::Handler(handler, named) => (handler, named),
        Route::NoHandler => return Ok(None),
        Route::NotAnEvent => {
            return Err(Failure::Undecodable(message.why_no_event()));
        }
    };
    if message.unreadable_headers > 0 {
        return Err(Failure::Undecodable(format!(
            "the names of {} of its headers are not UTF-8, and those headers cannot be read. Its dead letter is \
             without them; replayed, it is handled without them",
            message.unreadable_headers
        )));
    }
    let foreign = handler.options().foreign;
    let id = incoming.id.ok_or_else(|| Failure::Undecodable(message.why_no_id(foreign)))?;
    let context = message.context(&incoming.history, id, named.name, named.version);
    // A codec, or the conversion of an old version to a new one, is the user's code too.
    let decode = || {
        let payload = framed(message, handler, named);
        handler.decode(named, payload.as_deref())
    };
    let event = caught(decode)
        .map_err(|said| Failure::Undecodable(format!("the codec panicked: {said}")))?
        .map_err(|failure| Failure::Undecodable(failure.why(named)))?;
    Ok(Some(Prepared { options: handler.options(), context, event }))
}
