//! Business transactions on MySQL, while a relay runs beside them.

use outbox::{Outbox, OutboxError, transactional_outbox};
use outbox_bench_report::{Beside, Pairs, Plan, Way};
use sqlx::{Executor, MySql};
use uuid::Uuid;

use super::open;
use crate::turns::{Business, in_turns};
use crate::writers::{OrderPlaced, headers, lane};
use crate::{Failure, fleet};

const INSERT_ORDER: &str = "insert into orders (customer) values (?)";
/// The columns of `outbox-runtime/src/store/mysql/write.rs`.
const INSERT_EVENT: &str = "\
insert into outbox_event (lane, id, topic, event_key, name, version, content_type, headers, payload, occurred_at, kafka_partition) \
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

#[derive(Clone)]
struct Service {
    outbox: Outbox<MySql>,
}

impl Business for Service {
    async fn call(&self, way: Way, customer: u64) -> Result<(), Failure> {
        match way {
            Way::NoEvent => self.without_event(customer).await,
            Way::ByHand { rings } => self.by_hand(customer, rings).await,
            Way::Outbox => Ok(self.annotated(customer).await?),
            Way::BareTable { .. } => Err("the bare loop is not measured on MySQL".into()),
        }
    }
}

impl Service {
    #[transactional_outbox(tx in self.outbox)]
    async fn annotated(&self, customer: u64) -> Result<(), OutboxError> {
        let order = sqlx::query(INSERT_ORDER).bind(customer as i64).execute(&mut *tx).await?;
        tx.emit(OrderPlaced::new(customer, order.last_insert_id()))?;
        Ok(())
    }

    async fn without_event(&self, customer: u64) -> Result<(), Failure> {
        let mut tx = self.outbox.pool().begin().await?;
        sqlx::query(INSERT_ORDER).bind(customer as i64).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// With the same values as the macro and the runtime, but without what they do about a
    /// transaction that the server has ended.
    async fn by_hand(&self, customer: u64, ring: bool) -> Result<(), Failure> {
        let mut tx = self.outbox.pool().begin().await?;
        let order = sqlx::query(INSERT_ORDER).bind(customer as i64).execute(&mut *tx).await?;
        let event = OrderPlaced::new(customer, order.last_insert_id());
        let key = customer.to_string().into_bytes();
        let now = std::time::UNIX_EPOCH.elapsed()?.as_micros();
        sqlx::query(INSERT_EVENT)
            .bind(lane(&key))
            .bind(Uuid::now_v7())
            .bind("orders")
            .bind(&key)
            .bind("order.placed")
            .bind(1)
            .bind("application/json")
            .bind(headers(&event)?.into_bytes())
            .bind(serde_json::to_vec(&event)?)
            .bind(now as i64)
            .bind(None::<i32>)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        if ring {
            self.outbox.ring();
        }
        Ok(())
    }
}

pub(super) async fn measure(
    ways: [Way; 2],
    connections: u32,
    beside: Beside,
    plan: Plan,
) -> Result<Pairs, Failure> {
    let service = Service { outbox: open(connections + 2).await? };
    let orders = "create table if not exists orders (id bigint not null auto_increment primary key, customer bigint not null)";
    service.outbox.pool().execute(orders).await?;
    let relay = match beside {
        Beside::Nobody => None,
        Beside::RelayProcess => Some(fleet::started(&service.outbox).await?),
        Beside::RelayAndBareLoop => return Err("the bare loop is not measured on MySQL".into()),
    };
    let pairs = in_turns(service, ways, connections, plan).await?;
    relay.map(fleet::end).transpose()?;
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_it_has_the_columns_of_the_runtime() {
        let runtime = include_str!("../../../../outbox-runtime/src/store/mysql/write.rs");
        let (columns, _) = INSERT_EVENT.split_once("values").unwrap();
        let columns = columns.replace("outbox_event", "{event}");
        assert!(runtime.contains(&columns), "{columns}");
    }
}
