use outbox::DomainEvent;

#[derive(DomainEvent)]
#[event(topic = "t")]
union Created {
    #[event(key)]
    id: u64,
}

fn main() {}
