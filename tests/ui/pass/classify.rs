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

#[derive(Classify)]
#[classify(permanent)]
struct TooLong(#[allow(dead_code)] usize);

#[derive(Classify)]
struct TimedOut;

#[derive(Classify)]
#[allow(dead_code)]
enum Never {}

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
    assert_eq!(Elsewhere.class(), Permanent);
}
