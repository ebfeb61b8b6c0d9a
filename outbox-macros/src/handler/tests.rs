use expect_test::{Expect, expect, expect_file};
use proc_macro2::TokenStream;
use quote::quote;

use super::attribute;
use crate::testing::{broken, documented, keeps, prefixes, pretty};

/// The most lines that an expansion adds to a handler.
const MOST_LINES: usize = 45;

fn expands(args: TokenStream, item: TokenStream, expected: Expect) {
    let expanded = pretty(attribute(args, item.clone()));
    expected.assert_eq(&expanded);
    let added = expanded.lines().count() - pretty(item).lines().count();
    assert!(added <= MOST_LINES, "a handler grows by {added} lines");
}

#[test]
fn documentation_shows_real_expansions() {
    let expanded = attribute(
        quote!(
            group = "inventory",
            attempts = 3,
            retry_topics = ["10s", "5m"],
            later_events = "wait"
        ),
        quote! {
            pub async fn reserve(tx: &mut OutboxTx<'_, Postgres>, order: OrderCreated) -> Result<(), ReserveError> {
                sqlx::query("insert into reservation (order_id) values ($1)").bind(order.id).execute(&mut *tx).await?;
                Ok(())
            }
        },
    );
    expect_file!["../../docs/event_handler.md"].assert_eq(&documented(expanded));
}

#[test]
fn event_by_reference_with_context_state_and_attributes() {
    expands(
        quote!(crate = crate::events),
        quote! {
            /// Documented.
            #[cfg(feature = "inventory")]
            #[allow(dead_code)]
            #[deprecated]
            #[instrument(skip_all)]
            pub(crate) async fn reserve(
                tx: &mut OutboxTx<'_, Postgres>,
                OrderCreated { id, .. }: &OrderCreated,
                service: &Arc<Service>,
                context: &EventContext,
            ) -> anyhow::Result<()> {
                service.reserve(tx, id, context.attempt).await
            }
        },
        expect![[r##"
            #[allow(clippy::unused_async)]
            /// Documented.
            #[cfg(feature = "inventory")]
            #[allow(dead_code)]
            #[deprecated]
            pub(crate) fn reserve(
                service: Arc<Service>,
            ) -> impl crate::events::__private::EventHandler<
                Postgres,
                Event = OrderCreated,
                Error = <anyhow::Result<()> as crate::events::__private::HandlerResult>::Error,
            > {
                #[instrument(skip_all)]
                async fn reserve(
                    tx: &mut OutboxTx<'_, Postgres>,
                    OrderCreated { id, .. }: &OrderCreated,
                    service: &Arc<Service>,
                    context: &EventContext,
                ) -> anyhow::Result<()> {
                    service.reserve(tx, id, context.attempt).await
                }
                enum __OutboxTypes {}
                impl crate::events::__private::HandlerTypes for __OutboxTypes {
                    type Event = OrderCreated;
                    type Error = <anyhow::Result<
                        (),
                    > as crate::events::__private::HandlerResult>::Error;
                }
                crate::events::__private::FunctionHandler::<Postgres, _, __OutboxTypes> {
                    name: [::core::module_path!(), "reserve"],
                    options: crate::events::__private::HandlerOptions::new(),
                    state: service,
                    call: |__outbox_state, __outbox_tx, __outbox_event, __outbox_context| ::std::boxed::Box::pin(async move {
                        reserve(&mut *__outbox_tx, &__outbox_event, __outbox_state, __outbox_context)
                            .await
                    }),
                    classify: |__outbox_error| {
                        use crate::events::__private::ByClassify as _;
                        use crate::events::__private::ByDefault as _;
                        (&crate::events::__private::Classified(__outbox_error)).class()
                    },
                }
            }
        "##]],
    );
}

#[test]
fn all_options() {
    expands(
        quote!(
            group = "g",
            attempts = "unlimited",
            pause = "1500 ms",
            longest_pause = "1m",
            timeout = "2h",
            foreign = "header x-id",
            only = ["a", "b"],
            shared_transaction = 50,
        ),
        quote! {
            async fn f(tx: &mut OutboxTx<'_, Db>, event: Event) -> Result<(), Error> {}
        },
        expect![[r##"
            #[allow(clippy::unused_async)]
            fn f() -> impl ::outbox::__private::EventHandler<Db, Event = Event, Error = Error> {
                async fn f(tx: &mut OutboxTx<'_, Db>, event: Event) -> Result<(), Error> {}
                enum __OutboxTypes {}
                impl ::outbox::__private::HandlerTypes for __OutboxTypes {
                    type Event = Event;
                    type Error = Error;
                }
                ::outbox::__private::FunctionHandler::<Db, _, __OutboxTypes> {
                    name: [::core::module_path!(), "f"],
                    options: ::outbox::__private::HandlerOptions::new()
                        .group("g")
                        .retry_forever()
                        .backoff(
                            ::core::time::Duration::from_millis(1500),
                            ::core::time::Duration::from_secs(60),
                        )
                        .timeout(::core::time::Duration::from_secs(7200))
                        .foreign(::outbox::__private::ForeignId::Header("x-id"))
                        .only(&["a", "b"])
                        .shared_transaction(50),
                    state: (),
                    call: |_, __outbox_tx, __outbox_event, _| ::std::boxed::Box::pin(
                        f(&mut *__outbox_tx, __outbox_event),
                    ),
                    classify: |__outbox_error| {
                        use ::outbox::__private::ByClassify as _;
                        use ::outbox::__private::ByDefault as _;
                        (&::outbox::__private::Classified(__outbox_error)).class()
                    },
                }
            }
        "##]],
    );
}

#[test]
fn with_mistakes_it_is_a_handler_of_the_event() {
    expands(
        quote!(groop = "g"),
        quote! {
            pub fn f(tx: &mut OutboxTx<'_>, event: Event, state: &State) {}
        },
        expect![[r#"
            ::core::compile_error! {
                "unknown option `groop`\nhelp: did you mean `group`?"
            }
            ::core::compile_error! {
                "a handler is an async function\nhelp: write `async fn f`"
            }
            ::core::compile_error! {
                "`f` returns nothing, so it cannot say whether the event is handled\nhelp: return `Result<(), E>`: `Ok` commits, `Err` rolls back, and the event is tried again"
            }
            ::core::compile_error! {
                "the transaction does not name its database\nhelp: write `tx: &mut OutboxTx<'_, Postgres>`, with the database you use"
            }
            #[allow(clippy::unused_async)]
            pub fn f<__OutboxDatabase: ::outbox::OutboxDatabase>(
                state: State,
            ) -> impl ::outbox::__private::EventHandler<
                __OutboxDatabase,
                Event = Event,
                Error = ::core::convert::Infallible,
            > {
                enum __OutboxTypes {}
                impl ::outbox::__private::HandlerTypes for __OutboxTypes {
                    type Event = Event;
                    type Error = ::core::convert::Infallible;
                }
                ::outbox::__private::FunctionHandler::<__OutboxDatabase, _, __OutboxTypes> {
                    name: [::core::module_path!(), "f"],
                    options: ::outbox::__private::HandlerOptions::new(),
                    state: state,
                    call: |_, _, _, _| ::core::unreachable!(),
                    classify: |__outbox_error| {
                        use ::outbox::__private::ByClassify as _;
                        use ::outbox::__private::ByDefault as _;
                        (&::outbox::__private::Classified(__outbox_error)).class()
                    },
                }
            }
        "#]],
    );
}

#[test]
fn half_typed_handlers_never_panic_and_are_kept() {
    let args = quote!(
        group = "g",
        attempts = 3,
        pause = "1s",
        retry_topics = ["10s"],
        later_events = "wait",
        foreign = "key",
        only = ["a"]
    );
    let item = quote! {
        #[doc = "A"] pub(crate) async fn f(tx: &mut OutboxTx<'_, Db>, event: &Event, context: &EventContext, s: &State) -> Result<(), E> { a.b() }
    };
    for args in prefixes(&args).into_iter().chain(broken(&args)) {
        attribute(args, item.clone());
    }
    for item in prefixes(&item).into_iter().chain(broken(&item)) {
        attribute(args.clone(), item);
    }
    let body = quote!((tx: &mut OutboxTx<'_, Db>, event: &Event, context: &EventContext, s: &State) -> Result<(), E> { a.b() });
    assert!(keeps(attribute(args, item), body), "an editor must see what the user wrote");
}
