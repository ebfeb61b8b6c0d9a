use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};

struct ApiError(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}

#[transactional_outbox(tx in outbox)]
async fn create(
    State(outbox): State<Outbox<Sqlite>>,
    Json(id): Json<u64>,
) -> Result<Json<u64>, ApiError> {
    tx.emit(Created(id))?;
    Ok(Json(id))
}

#[transactional_outbox(tx in outbox, retry = 3)]
async fn update(
    State(outbox): State<Outbox<Sqlite>>,
    Path(id): Path<u64>,
) -> Result<impl IntoResponse, ApiError> {
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(Created(id))?;
    Ok((StatusCode::CREATED, Json(id)))
}

fn main() {
    let _ = |outbox: Outbox<Sqlite>| -> Router {
        Router::new()
            .route("/orders", post(create))
            .route("/orders/{id}", post(update))
            .with_state(outbox)
    };
}
