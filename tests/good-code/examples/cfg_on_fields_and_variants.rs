use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "cfg")]
enum Event {
    #[cfg(any())]
    Never(Missing),
    #[cfg(all())]
    Always {
        #[cfg(any())]
        #[event(key)]
        missing: Missing,
        #[cfg(all())]
        #[cfg_attr(all(), event(key))]
        id: u8,
    },
}

fn main() {
    assert_eq!(Event::DESCRIPTORS.len(), 1);
    assert_eq!(Event::Always { id: 1 }.descriptor().name, "Always");
}
