use outbox::consume::Classify;

#[derive(Classify)]
#[classify(class = "retryable")]
enum Error {
    #[classify(fatal)]
    SoldOut,
    #[classify(retry = false)]
    Unknown,
    #[classify(Permanent)]
    Closed,
    #[classify = "transient"]
    Busy,
    #[classify("permanent")]
    Gone,
}

fn main() {}
