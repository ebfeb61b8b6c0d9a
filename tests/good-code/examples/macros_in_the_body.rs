use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

macro_rules! bail {
    () => {
        return Ok(0)
    };
}

#[transactional_outbox(tx in outbox)]
async fn body(outbox: &Outbox<Sqlite>, ids: &[u64]) -> Result<u64, OutboxError> {
    let all = vec![1, 2, 3];
    if all.len() > 7 {
        bail!();
    }
    let first = tokio::select! {
        biased;
        () = std::future::ready(()) => all[0],
        () = tokio::task::yield_now() => return Ok(1),
    };
    let (a, b) = tokio::join!(async { first }, async { 2 });
    let each = |id: u64| -> Result<u64, OutboxError> {
        if id == 0 {
            return Ok(1);
        }
        Ok(id)
    };
    let sum = 'sum: {
        for id in ids {
            if *id == 9 {
                break 'sum 9;
            }
            tx.emit(Created(each(*id)?))?;
        }
        a + b
    };
    let inner = async {
        tx.emit(Created(sum))?;
        Ok::<_, OutboxError>(3)
    };
    println!("{}", format_args!("{}", inner.await?));
    let nested = async || -> Result<(), OutboxError> { Ok(()) };
    nested().await?;
    Ok(match sum {
        0 => return Err(OutboxError::from(sqlx::Error::RowNotFound)),
        n => n,
    })
}

fn main() {
    let _ = body;
}
