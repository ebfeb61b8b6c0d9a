use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

use super::attribute;
use crate::testing::{keeps, prefixes, pretty};

/// What a method may grow by.
const MOST_LINES: usize = 40;

fn expands(args: TokenStream, item: TokenStream, expected: Expect) {
    let in_impl = |item: TokenStream| pretty(quote!(impl Service { #item }));
    let expanded = in_impl(attribute(args, item.clone()));
    expected.assert_eq(&expanded);
    let added = expanded.lines().count() - in_impl(item).lines().count();
    assert!(added <= MOST_LINES, "a method grows by {added} lines");
}

#[test]
fn method() {
    expands(
        quote!(tx in self.outbox),
        quote! {
            /// Documented.
            pub async fn create(&self, mut order: Order) -> Result<Order, OrderError> {
                order.id = self.orders.insert(tx, &order).await?;
                tx.emit(OrderCreated::from(&order))?;
                Ok(order)
            }
        },
        expect![[r#"
            impl Service {
                /// Documented.
                pub async fn create(&self, mut order: Order) -> Result<Order, OrderError> {
                    let outcome = <Result<
                        Order,
                        OrderError,
                    > as ::outbox::__private::Outcome>::VTABLE;
                    let mut transaction = match ::outbox::__private::BeginOutbox::begin_outbox(
                            &(self.outbox),
                        )
                        .await
                    {
                        ::core::result::Result::Ok(transaction) => transaction,
                        ::core::result::Result::Err(error) => return outcome.error(error),
                    };
                    let run = ::outbox::__private::body(
                        &transaction,
                        outcome,
                        async move |tx| {
                            if let ::core::option::Option::Some(result) = ::core::option::Option::None::<
                                Result<Order, OrderError>,
                            > {
                                return result;
                            }
                            let result: Result<Order, OrderError> = {
                                order.id = self.orders.insert(tx, &order).await?;
                                tx.emit(OrderCreated::from(&order))?;
                                Ok(order)
                            };
                            #[allow(unreachable_code)] result
                        },
                    );
                    let result = run(&mut transaction).await;
                    ::outbox::__private::finish(transaction, result, outcome).await
                }
            }
        "#]],
    );
}

#[test]
fn savepoint_with_an_opaque_return_type() {
    expands(
        quote!(tx in tx, crate = crate::events),
        quote! {
            async fn create<T>(tx: &mut OutboxTx<'_, Db>, f: impl Fn() -> T) -> Result<(impl Fn() -> T, u8), Error> {
                Ok((f, 1))
            }
        },
        expect![[r#"
            impl Service {
                async fn create<T>(
                    tx: &mut OutboxTx<'_, Db>,
                    f: impl Fn() -> T,
                ) -> Result<(impl Fn() -> T, u8), Error> {
                    let outcome = <Result<
                        (_, u8),
                        Error,
                    > as crate::events::__private::Outcome>::VTABLE;
                    let mut transaction = match crate::events::__private::BeginOutbox::begin_outbox(
                            &mut *tx,
                        )
                        .await
                    {
                        ::core::result::Result::Ok(transaction) => transaction,
                        ::core::result::Result::Err(error) => return outcome.error(error),
                    };
                    let run = crate::events::__private::body(
                        &transaction,
                        outcome,
                        async move |tx| {
                            if let ::core::option::Option::Some(result) = ::core::option::Option::None::<
                                Result<(_, u8), Error>,
                            > {
                                return result;
                            }
                            let result: Result<(_, u8), Error> = { Ok((f, 1)) };
                            #[allow(unreachable_code)] result
                        },
                    );
                    let result = run(&mut transaction).await;
                    crate::events::__private::finish(transaction, result, outcome).await
                }
            }
        "#]],
    );
}

#[test]
fn boxed_future_as_async_trait_writes_it() {
    expands(
        quote!(tx in self.outbox),
        quote! {
            fn create<'life0, 'async_trait>(
                &'life0 self,
            ) -> ::core::pin::Pin<
                Box<dyn ::core::future::Future<Output = Result<(), Error>> + ::core::marker::Send + 'async_trait>,
            >
            where
                'life0: 'async_trait,
            {
                Box::pin(async move {
                    let __self = self;
                    tx.emit(Created)?;
                    Ok(())
                })
            }
        },
        expect![[r#"
            impl Service {
                fn create<'life0, 'async_trait>(
                    &'life0 self,
                ) -> ::core::pin::Pin<
                    Box<
                        dyn ::core::future::Future<
                            Output = Result<(), Error>,
                        > + ::core::marker::Send + 'async_trait,
                    >,
                >
                where
                    'life0: 'async_trait,
                {
                    Box::pin(async move {
                        let outcome = <Result<(), Error> as ::outbox::__private::Outcome>::VTABLE;
                        let mut transaction = match ::outbox::__private::BeginOutbox::begin_outbox(
                                &(self.outbox),
                            )
                            .await
                        {
                            ::core::result::Result::Ok(transaction) => transaction,
                            ::core::result::Result::Err(error) => return outcome.error(error),
                        };
                        let run = ::outbox::__private::body(
                            &transaction,
                            outcome,
                            async move |tx| {
                                if let ::core::option::Option::Some(result) = ::core::option::Option::None::<
                                    Result<(), Error>,
                                > {
                                    return result;
                                }
                                let result: Result<(), Error> = {
                                    let __self = self;
                                    tx.emit(Created)?;
                                    Ok(())
                                };
                                #[allow(unreachable_code)] result
                            },
                        );
                        let result = run(&mut transaction).await;
                        ::outbox::__private::finish(transaction, result, outcome).await
                    })
                }
            }
        "#]],
    );
}

#[test]
fn mistake_leaves_the_method_with_a_tx_of_no_type() {
    expands(
        quote!(),
        quote! {
            fn create(&self) -> Result<(), Error> {
                helper(tx).await?;
                tx.emit(Created)
            }
        },
        expect![[r#"
            impl Service {
                ::core::compile_error! {
                    "which transaction, and on which outbox?\nhelp: name both: `#[transactional_outbox(tx in self.outbox)]`"
                }
                async fn create(&self) -> Result<(), Error> {
                    #[allow(unused_variables)]
                    let tx = {
                        ::core::compile_error! {
                            "a transaction needs an async function\nhelp: write `async fn create`"
                        }
                    };
                    helper(tx).await?;
                    tx.emit(Created)
                }
            }
        "#]],
    );
}

#[test]
fn half_typed_methods_never_panic_and_are_never_lost() {
    let args = quote!(tx in &mut self.outbox.get::<A, B>(1)?, crate = crate::outbox);
    let items = [
        quote! {
            #[doc = "x"]
            #[instrument(skip(self))]
            pub(crate) async unsafe fn f<'a, T: Fn(u8) -> u8, const N: usize>(
                self: Arc<Self>,
                (a, b): (u8, [T; N]),
                tx: &'a mut OutboxTx<'_, Db>,
            ) -> Result<impl Iterator<Item = T> + 'a, Error>
            where
                T: 'a,
            {
                tx.emit(Created { a, b: vec![1, 2] })?;
                let x = async || { return Ok(1) };
                'a: loop { break 'a; }
            }
        },
        quote! {
            fn f(&self) -> Pin<Box<dyn Future<Output = Result<(), E>> + Send + '_>> {
                let a = 1;
                Box::pin(async move { tx.emit(a).await })
            }
        },
        quote!(
            fn f() -> impl Future<Output = Result<(), E>> + Send {
                async move { tx.emit(a) }
            }
        ),
        quote!(
            async fn f(&self) -> Result<(), E>;
        ),
        quote!(impl Service { async fn f(&self) {} }),
    ];
    for item in items {
        for prefix in prefixes(&item) {
            let output = attribute(args.clone(), prefix.clone());
            assert!(keeps(output, prefix.clone()), "lost tokens of: {prefix}");
        }
        for prefix in prefixes(&args) {
            let output = attribute(prefix.clone(), item.clone());
            assert!(keeps(output, item.clone()), "lost tokens of the item with: {prefix}");
        }
    }
}
