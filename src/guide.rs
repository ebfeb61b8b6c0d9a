#![doc = "[getting-started]: getting_started"]
#![doc = "[testing]: testing"]
#![doc = "[evolving-events]: evolving_events"]
#![doc = "[contracts]: contracts"]
#![doc = "[registry]: registry"]
#![doc = "[handlers]: handlers"]
#![doc = "[errors-retries-dead-letters]: errors_retries_dead_letters"]
#![doc = "[idempotency]: idempotency"]
#![doc = "[exactly-once]: exactly_once"]
#![doc = "[production]: production"]
#![doc = "[operating]: operating"]
#![doc = "[command]: command"]
#![doc = "[scaling]: scaling"]
#![doc = "[observing]: observing"]
#![doc = "[postgres]: postgres"]
#![doc = "[mysql]: mysql"]
#![doc = "[debezium]: debezium"]
#![doc = "[tracing]: mod@tracing"]
#![doc = "[securing]: securing"]
#![doc = "[coming-from-spring]: coming_from_spring"]
#![doc = "[mistakes]: mistakes"]
#![doc = ""]
#![doc = include_str!("../docs/guide/README.md")]
#![doc = ""]
#![doc = "This module is documentation only: no program sees it."]

// A page links to another one as `[text][its-file]`, and defines `[its-file]: its-file.md` in its
// last lines, for those who read the files. The definitions here come before a page, and of two
// definitions the first one counts. They name modules of this file.
macro_rules! pages {
    ($($(#[$attribute:meta])* $page:ident: $file:literal,)*) => {$(
        $(#[$attribute])*
        #[doc = "[getting-started]: getting_started"]
        #[doc = "[testing]: testing"]
        #[doc = "[evolving-events]: evolving_events"]
        #[doc = "[contracts]: contracts"]
        #[doc = "[registry]: registry"]
        #[doc = "[handlers]: handlers"]
        #[doc = "[errors-retries-dead-letters]: errors_retries_dead_letters"]
        #[doc = "[idempotency]: idempotency"]
        #[doc = "[exactly-once]: exactly_once"]
        #[doc = "[production]: production"]
        #[doc = "[operating]: operating"]
        #[doc = "[command]: command"]
        #[doc = "[scaling]: scaling"]
        #[doc = "[observing]: observing"]
        #[doc = "[postgres]: postgres"]
        #[doc = "[mysql]: mysql"]
        #[doc = "[debezium]: debezium"]
        #[doc = "[tracing]: mod@tracing"]
        #[doc = "[securing]: securing"]
        #[doc = "[coming-from-spring]: coming_from_spring"]
        #[doc = "[mistakes]: mistakes"]
        #[doc = "[observe]: crate::observe"]
        #[doc = "[trace]: crate::trace"]
        #[doc = "[readme]: crate"]
        #[doc = ""]
        #[doc = include_str!(concat!("../docs/guide/", $file))]
        pub mod $page {}
    )*};
}

// Not a doc test: the programs of the first two are of several packages, and are built by `cargo
// xtask guide`; the code of the mistakes is that of the tests in `tests/ui`. That of contracts needs
// the feature `schema`. That of the registry is built with `outbox-registry`, whose codecs it has.
pages! {
    #[cfg(not(doctest))]
    getting_started: "getting-started.md",
    #[cfg(not(doctest))]
    testing: "testing.md",
    evolving_events: "evolving-events.md",
    #[cfg(any(not(doctest), feature = "schema"))]
    contracts: "contracts.md",
    #[cfg(not(doctest))]
    registry: "registry.md",
    handlers: "handlers.md",
    errors_retries_dead_letters: "errors-retries-dead-letters.md",
    idempotency: "idempotency.md",
    exactly_once: "exactly-once.md",
    production: "production.md",
    operating: "operating.md",
    command: "command.md",
    scaling: "scaling.md",
    observing: "observing.md",
    postgres: "postgres.md",
    mysql: "mysql.md",
    tracing: "tracing.md",
    securing: "securing.md",
    #[cfg(any(not(doctest), feature = "postgres"))]
    debezium: "debezium.md",
    coming_from_spring: "coming-from-spring.md",
    #[cfg(not(doctest))]
    mistakes: "mistakes.md",
}
