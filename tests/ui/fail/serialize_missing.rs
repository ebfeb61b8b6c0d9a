use outbox::DomainEvent;

#[derive(DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
}

fn main() {}
