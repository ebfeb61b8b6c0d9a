/// Makes a test of all events of a program: each is compared with the lock, and the lock has no
/// event that the program no longer has.
///
/// ```
/// # use outbox::DomainEvent;
/// # use outbox::schemars::{self, JsonSchema};
/// # #[derive(serde::Serialize, JsonSchema, DomainEvent)]
/// # #[event(topic = "orders", keyless)]
/// # struct OrderPlaced;
/// # #[derive(serde::Serialize, JsonSchema, DomainEvent)]
/// # #[event(topic = "orders", keyless)]
/// # struct Changed<T>(T);
/// outbox::catalogue![OrderPlaced, Changed<String>];
/// ```
///
/// A derive writes a test for its own type. This one also is for generic types, which have no test
/// until someone says what their parameters are, and for types of other crates. Where one lock is
/// that of several crates, one crate that depends on all of them has the catalogue.
///
/// Of a transparent enum, the events are those in it.
#[macro_export]
macro_rules! catalogue {
    ($($event:ty),* $(,)?) => {
        #[cfg(test)]
        #[::core::prelude::v1::test]
        fn outbox_catalogue() {
            $crate::__private::contracts::catalogue(
                ::core::option_env!("CARGO_MANIFEST_DIR"),
                &[$(<$event as $crate::__private::contracts::Contracted>::contracts()),*],
            );
        }
    };
}
