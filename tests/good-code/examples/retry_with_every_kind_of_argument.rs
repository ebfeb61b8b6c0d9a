use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::collections::HashMap;
use std::sync::Arc;

#[derive(Clone)]
struct Order {
    id: u64,
    items: Vec<String>,
}

struct Service {
    outbox: Outbox<Sqlite>,
}

impl Service {
    #[transactional_outbox(tx in self.outbox, isolation = "serializable", retry = 3, name = "create order")]
    async fn create<T: Clone + Into<u64>>(
        &self,
        mut order: Order,
        (first, mut second): (u64, u64),
        Order { id, .. }: Order,
        [a, b]: [u64; 2],
        name: &str,
        generic: T,
        id_of: impl Fn(&Order) -> u64 + Clone,
        shared: Arc<HashMap<u64, String>>,
        _: u8,
        _unused: bool,
        #[cfg(any())] absent: NotEvenAType,
    ) -> Result<Order, OutboxError> {
        order.items.push(name.to_owned());
        second += first;
        for id in [id, a, b, second, generic.into(), id_of(&order), shared.len() as u64] {
            tx.emit(Created(id))?;
        }
        drop(shared);
        Ok(order)
    }
}

fn assert_send<T: Send>(_: T) {}

fn main() {
    let _ = |service: &Service, order: Order| {
        assert_send(service.create(
            order.clone(),
            (1, 2),
            order,
            [1, 2],
            "name",
            1_u8,
            |order| order.id,
            Arc::default(),
            0,
            true,
        ));
    };
}
