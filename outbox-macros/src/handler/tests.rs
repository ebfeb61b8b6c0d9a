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
        expect![[r#"
            /// Documented.
            #[cfg(feature = "inventory")]
            #[allow(dead_code)]
            #[deprecated]
            #[allow(non_camel_case_types)]
            pub(crate) struct reserve(pub Arc<Service>);
            #[cfg(feature = "inventory")]
            #[allow(deprecated)]
            impl reserve {
                /// Documented.
                #[allow(dead_code)]
                #[instrument(skip_all)]
                #[allow(clippy::unused_async)]
                pub(crate) async fn call(
                    tx: &mut OutboxTx<'_, Postgres>,
                    OrderCreated { id, .. }: &OrderCreated,
                    service: &Arc<Service>,
                    context: &EventContext,
                ) -> anyhow::Result<()> {
                    service.reserve(tx, id, context.attempt).await
                }
            }
            #[cfg(feature = "inventory")]
            #[allow(deprecated)]
            const _: () = {
                #[automatically_derived]
                impl crate::events::__private::EventHandler<Postgres> for reserve
                where
                    anyhow::Result<()>: crate::events::__private::HandlerResult,
                {
                    type Event = OrderCreated;
                    type Error = <anyhow::Result<
                        (),
                    > as crate::events::__private::HandlerResult>::Error;
                    fn options(&self) -> crate::events::__private::HandlerOptions {
                        crate::events::__private::HandlerOptions::new()
                    }
                    fn classify(
                        &self,
                        __outbox_error: &Self::Error,
                    ) -> crate::events::__private::ErrorClass {
                        use crate::events::__private::ByClassify as _;
                        use crate::events::__private::ByDefault as _;
                        (&crate::events::__private::Classified(__outbox_error)).class()
                    }
                    async fn handle(
                        &self,
                        __outbox_tx: &mut crate::events::__private::OutboxTx<'static, Postgres>,
                        __outbox_event: Self::Event,
                        __outbox_context: &crate::events::__private::EventContext,
                    ) -> ::core::result::Result<(), Self::Error> {
                        crate::events::__private::HandlerResult::into_result(
                            Self::call(&mut *__outbox_tx, &__outbox_event, &self.0, __outbox_context)
                                .await,
                        )
                    }
                }
            };
        "#]],
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
        ),
        quote! {
            async fn f(tx: &mut OutboxTx<'_, Db>, event: Event) -> Result<(), Error> {}
        },
        expect![[r##"
            #[allow(non_camel_case_types)]
            struct f;
            impl f {
                #[allow(clippy::unused_async)]
                async fn call(tx: &mut OutboxTx<'_, Db>, event: Event) -> Result<(), Error> {}
            }
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::EventHandler<Db> for f
                where
                    Result<(), Error>: ::outbox::__private::HandlerResult,
                {
                    type Event = Event;
                    type Error = <Result<(), Error> as ::outbox::__private::HandlerResult>::Error;
                    fn options(&self) -> ::outbox::__private::HandlerOptions {
                        ::outbox::__private::HandlerOptions::new()
                            .group("g")
                            .retry_forever()
                            .backoff(
                                ::core::time::Duration::from_millis(1500),
                                ::core::time::Duration::from_secs(60),
                            )
                            .timeout(::core::time::Duration::from_secs(7200))
                            .foreign(::outbox::__private::ForeignId::Header("x-id"))
                    }
                    fn classify(
                        &self,
                        __outbox_error: &Self::Error,
                    ) -> ::outbox::__private::ErrorClass {
                        use ::outbox::__private::ByClassify as _;
                        use ::outbox::__private::ByDefault as _;
                        (&::outbox::__private::Classified(__outbox_error)).class()
                    }
                    async fn handle(
                        &self,
                        __outbox_tx: &mut ::outbox::__private::OutboxTx<'static, Db>,
                        __outbox_event: Self::Event,
                        _: &::outbox::__private::EventContext,
                    ) -> ::core::result::Result<(), Self::Error> {
                        ::outbox::__private::HandlerResult::into_result(
                            Self::call(&mut *__outbox_tx, __outbox_event).await,
                        )
                    }
                }
            };
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
            #[allow(non_camel_case_types)]
            pub struct f(pub State);
            impl f {}
            const _: () = {
                #[automatically_derived]
                impl<DB: ::outbox::OutboxDatabase> ::outbox::__private::EventHandler<DB> for f {
                    type Event = Event;
                    type Error = ::core::convert::Infallible;
                    fn options(&self) -> ::outbox::__private::HandlerOptions {
                        ::outbox::__private::HandlerOptions::new()
                    }
                    fn classify(
                        &self,
                        __outbox_error: &Self::Error,
                    ) -> ::outbox::__private::ErrorClass {
                        use ::outbox::__private::ByClassify as _;
                        use ::outbox::__private::ByDefault as _;
                        (&::outbox::__private::Classified(__outbox_error)).class()
                    }
                    async fn handle(
                        &self,
                        __outbox_tx: &mut ::outbox::__private::OutboxTx<'static, DB>,
                        __outbox_event: Self::Event,
                        _: &::outbox::__private::EventContext,
                    ) -> ::core::result::Result<(), Self::Error> {
                        ::core::unreachable!()
                    }
                }
            };
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
        foreign = "key"
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
