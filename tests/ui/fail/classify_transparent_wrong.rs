use outbox::consume::Classify;

#[derive(Classify)]
enum ReserveError {
    #[classify(transparent)]
    NoField,
    #[classify(transparent)]
    WhichOne(sqlx::Error, sqlx::Error),
    #[classify(transparent, permanent)]
    Both(sqlx::Error),
}

fn main() {}
