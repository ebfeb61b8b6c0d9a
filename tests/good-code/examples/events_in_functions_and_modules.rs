#![forbid(non_local_definitions)]

use outbox::DomainEvent;
use outbox::event::EventDescriptor;
use serde::Serialize;

mod private {
    use super::*;

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "t", keyless)]
    pub(in crate::private) struct Hidden;

    pub fn descriptors() -> &'static [EventDescriptor] {
        Hidden::DESCRIPTORS
    }
}

fn main() {
    #[derive(Serialize, DomainEvent)]
    #[event(topic = "t")]
    struct Local {
        #[event(key)]
        id: u64,
    }

    let nested = || {
        #[derive(Serialize, DomainEvent)]
        #[event(topic = "t", keyless)]
        enum Deeper {
            Deepest,
        }
        Deeper::Deepest.descriptor().name
    };
    assert_eq!(nested(), "Deepest");
    assert_eq!(private::descriptors()[0].name, "Hidden");
    assert_eq!(Local { id: 1 }.key().as_deref(), Some(&b"1"[..]));
}
