//! An axum handler that is a transaction: `Ok` commits the order and its event, `Err` rolls both
//! back and becomes the answer.
//!
//! ```text
//! apples: 201 Created
//! moon: 422 Unprocessable Entity
//! events: ["order.placed"]
//! ```

use std::error::Error;

use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, Sqlite};
use tower::ServiceExt;

/// The request, and the event.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct Order {
    #[event(key)]
    customer: String,
    item: String,
}

struct Refused(StatusCode, String);
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// For `?` on the errors of sqlx and of the outbox. The commit can fail, too.
impl<E: Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

#[transactional_outbox(tx in outbox)]
async fn place_order(
    State(outbox): State<Outbox<Sqlite>>,
    Json(order): Json<Order>,
) -> Result<StatusCode, Refused> {
    let insert = sqlx::query("insert into orders (item) values ($1)").bind(&order.item);
    insert.execute(&mut *tx).await?;
    tx.emit(&order)?;
    if order.item == "moon" {
        return Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, "not sold here".into()));
    }
    Ok(StatusCode::CREATED)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table orders (item text)").await?;

    let app = Router::new().route("/orders", post(place_order)).with_state(outbox.clone());
    for item in ["apples", "moon"] {
        let order = format!(r#"{{"customer": "alice", "item": "{item}"}}"#);
        let request = Request::post("/orders").header("content-type", "application/json");
        println!("{item}: {}", app.clone().oneshot(request.body(order)?).await?.status());
    }
    println!("events: {:?}", emitted(&outbox).await?.names());
    Ok(())
}
