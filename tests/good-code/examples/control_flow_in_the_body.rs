use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

macro_rules! or_return {
    ($option:expr, $otherwise:expr) => {
        match $option {
            Some(value) => value,
            None => return Ok($otherwise),
        }
    };
}

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>, ids: Vec<Option<u64>>) -> Result<u64, OutboxError> {
    let mut sum = 0;
    'rows: for id in &ids {
        let id = or_return!(*id, sum);
        let found = 'found: {
            if id == 0 {
                break 'found false;
            }
            loop {
                if sum > 100 {
                    break 'rows;
                }
                if sum % 2 == 0 {
                    break;
                }
                sum += 1;
            }
            true
        };
        if !found {
            continue 'rows;
        }
        let Some(next) = id.checked_add(1) else { return Err(sqlx::Error::RowNotFound.into()) };
        while let Some(last) = ids.last() {
            let _ = last;
            break;
        }
        sum += next;
        tx.emit(Created(id))?;
    }
    let closure =
        |id: u64| -> Result<u64, OutboxError> { if id > 5 { return Ok(5) } else { Ok(id) } };
    let sum = match closure(sum)? {
        0 => return Ok(0),
        sum => sum,
    };
    let emitted = async { tx.emit(Created(sum)) }.await?;
    let _ = emitted;
    fn inner() -> Option<u8> {
        return None;
    }
    let _ = inner();
    Ok(sum)
}

fn main() {
    let _ = create;
}
