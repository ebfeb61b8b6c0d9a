use outbox::consume::Classify;

#[derive(Classify)]
enum ReserveError {
    #[classify(transparent)]
    Io(std::io::Error),
    #[classify(permanent)]
    SoldOut,
}

fn main() {}
