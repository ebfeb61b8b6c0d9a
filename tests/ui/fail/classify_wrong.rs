use outbox::consume::Classify;

#[derive(Classify)]
enum ReserveError {
    #[classify(permanant)]
    Misspelt,
    #[classify]
    Alone,
    #[classify()]
    Empty,
    #[classify = "permanent"]
    Text,
    #[classify(permanent, transient)]
    Both,
    #[classify(permanent)]
    #[classify(permanent)]
    Twice,
    #[classify(permanent = true)]
    WithAValue,
    #[classify(fatal)]
    Invented,
    #[classify(crate = outbox)]
    InTheWrongPlace,
    OnAField(#[classify(permanent)] sqlx::Error),
}

#[derive(Classify)]
#[classify(retry)]
struct Busy;

fn main() {}
