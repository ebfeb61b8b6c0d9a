#![deny(deprecated)]

use outbox::consume::{Classify, ErrorClass};

#[derive(Classify)]
enum ReserveError {
    #[classify(permanent)]
    UnknownItem {
        id: u64,
    },
    #[classify(permanent)]
    Closed,
    #[classify(transient)]
    Busy(String),
    Database(sqlx::Error),
    #[classify(permanent)]
    #[deprecated]
    #[allow(dead_code)]
    Old,
}

#[derive(Classify)]
#[classify(permanent)]
enum ValidationError<'a, T: ?Sized>
where
    T: 'a,
{
    Missing(&'a T),
    #[classify(transient)]
    #[allow(non_camel_case_types)]
    r#try,
}

#[derive(Debug, thiserror::Error, Classify)]
#[error("too long")]
#[classify(permanent)]
struct TooLong(#[allow(dead_code)] usize);

#[derive(Classify)]
struct TimedOut;

#[derive(Classify)]
#[allow(dead_code)]
enum Never {}

#[derive(Debug, thiserror::Error, Classify)]
#[classify(transparent)]
enum ShipError {
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("at {place}")]
    Nested { place: u8, source: Box<ShipError> },
    #[error("it was {0}")]
    Caused(#[source] std::sync::Arc<TooLong>, u8),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] outbox::OutboxError),
    #[classify(permanent)]
    #[error("closed")]
    Closed,
}

#[derive(Classify)]
#[classify(transparent)]
struct Wrapper<T>(T);

mod reexported {
    pub use outbox::*;
}

#[derive(reexported::consume::Classify)]
#[classify(crate = reexported, permanent)]
struct Elsewhere;

fn main() {
    use ErrorClass::{Permanent, Transient};
    let unknown = ReserveError::UnknownItem { id: 1 };
    assert_eq!(unknown.class(), Permanent);
    let ReserveError::UnknownItem { id: 1 } = unknown else { unreachable!() };
    assert_eq!(ReserveError::Closed.class(), Permanent);
    assert_eq!(ReserveError::Busy(String::new()).class(), Transient);
    assert_eq!(ReserveError::Database(sqlx::Error::RowNotFound).class(), Transient);
    assert_eq!(ValidationError::Missing("name").class(), Permanent);
    assert_eq!(ValidationError::<u8>::r#try.class(), Transient);
    assert_eq!(TooLong(1).class(), Permanent);
    assert_eq!(TimedOut.class(), Transient);
    assert_eq!(ShipError::from(TooLong(1)).class(), Permanent);
    let nested = |source: ShipError| ShipError::Nested { place: 1, source: Box::new(source) };
    assert_eq!(nested(ShipError::Closed).class(), Permanent);
    assert_eq!(nested(sqlx::Error::RowNotFound.into()).class(), Transient);
    assert_eq!(ShipError::Caused(TooLong(1).into(), 1).class(), Permanent);
    let outbox = outbox::OutboxError::from(sqlx::Error::RowNotFound);
    assert_eq!(ShipError::Outbox(outbox).class(), Transient);
    assert_eq!(Wrapper(TimedOut).class(), Transient);
    assert_eq!(Wrapper(TooLong(1)).class(), Permanent);
    assert_eq!(Elsewhere.class(), Permanent);
}
