use crate::event::DomainEvent;

/// What a handler takes: an event, or an `Option` of one. `None` is a tombstone, a message without
/// a payload, by which a compacted topic forgets a key. For other handlers a tombstone is
/// undecodable.
// Here and not beside `EventHandler`: only the crate of `DomainEvent` may rely on `Option` not
// being one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a domain event",
    label = "`DomainEvent` is not implemented for `{Self}`",
    note = "add `#[derive(serde::Deserialize, outbox::DomainEvent)]` and `#[event(topic = \"…\")]` to `{Self}`, and mark its key field `#[event(key)]`",
    note = "an old version that is `#[event(read_only)]` is handled as the version that says `upcast_from` it"
)]
pub trait HandlerEvent: Sized + Send {
    /// The event.
    type Of: DomainEvent + Send;

    /// Converts an event, or `None` for a tombstone, to what the handler takes. Returns `None` if
    /// it does not take that.
    fn from_message(event: Option<Self::Of>) -> Option<Self>;
}

#[diagnostic::do_not_recommend]
impl<E: DomainEvent + Send> HandlerEvent for E {
    type Of = E;

    fn from_message(event: Option<E>) -> Option<E> {
        event
    }
}

#[diagnostic::do_not_recommend]
impl<E: DomainEvent + Send> HandlerEvent for Option<E> {
    type Of = E;

    fn from_message(event: Option<E>) -> Option<Self> {
        Some(event)
    }
}
