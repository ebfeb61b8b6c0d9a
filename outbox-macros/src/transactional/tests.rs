use expect_test::{Expect, expect, expect_file};
use proc_macro2::TokenStream;
use quote::quote;

use super::attribute;
use crate::testing::{broken, documented, keeps, named_shortly, prefixes, pretty};

/// The most lines that an expansion adds to a method, apart from those for the arguments that
/// `retry` clones.
const MOST_LINES: usize = 40;

fn expands(args: TokenStream, item: TokenStream, expected: Expect) {
    let in_impl = |item: TokenStream| pretty(quote!(impl Service { #item }));
    let expanded = attribute(args, item.clone());
    expected.assert_eq(&in_impl(expanded.clone()));
    let expanded = in_impl(named_shortly(expanded));
    let lines = |code: &str| {
        let clones = code.matches("RetryArgument::of_attempt").count();
        code.lines().count() - clones - code.matches("#[cfg(").count()
    };
    let added = lines(&expanded) - lines(&in_impl(item));
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
                    let __outbox_outcome = <Result<
                        Order,
                        OrderError,
                    > as ::outbox::__private::Outcome>::VTABLE;
                    let mut __outbox_transaction = match ::outbox::__private::BeginOutbox::begin_outbox(
                            &(self.outbox),
                        )
                        .await
                    {
                        ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                        ::core::result::Result::Err(__outbox_error) => {
                            return __outbox_outcome.error(__outbox_error);
                        }
                    };
                    let __outbox_run = ::outbox::__private::body(
                        &__outbox_transaction,
                        async move |tx| {
                            if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                .never()
                            {
                                return __outbox_result;
                            }
                            order.id = self.orders.insert(tx, &order).await?;
                            tx.emit(OrderCreated::from(&order))?;
                            Ok(order)
                        },
                    );
                    let __outbox_held = match __outbox_outcome
                        .hold(__outbox_run(&mut __outbox_transaction).await)
                    {
                        ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                        ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                    };
                    ::outbox::__private::finish(
                            __outbox_transaction,
                            __outbox_held,
                            __outbox_outcome,
                        )
                        .await
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
                    let __outbox_outcome = <Result<
                        (_, u8),
                        Error,
                    > as crate::events::__private::Outcome>::VTABLE;
                    let mut __outbox_transaction = match crate::events::__private::BeginOutbox::begin_outbox({
                            use crate::events::__private::Lend as _;
                            (tx).__outbox_lend()
                        })
                        .await
                    {
                        ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                        ::core::result::Result::Err(__outbox_error) => {
                            return __outbox_outcome.error(__outbox_error);
                        }
                    };
                    let __outbox_run = crate::events::__private::body(
                        &__outbox_transaction,
                        async move |tx| {
                            if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                .never()
                            {
                                return __outbox_result;
                            }
                            Ok((f, 1))
                        },
                    );
                    let __outbox_held = match __outbox_outcome
                        .hold(__outbox_run(&mut __outbox_transaction).await)
                    {
                        ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                        ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                    };
                    crate::events::__private::finish(
                            __outbox_transaction,
                            __outbox_held,
                            __outbox_outcome,
                        )
                        .await
                }
            }
        "#]],
    );
}

#[test]
fn savepoint_in_a_field_of_which_the_body_uses_others() {
    expands(
        quote!(tx in self.tx),
        quote! {
            async fn create(&mut self) -> Result<(), Error> {
                self.count += 1;
                Ok(())
            }
        },
        expect![[r#"
            impl Service {
                async fn create(&mut self) -> Result<(), Error> {
                    let __outbox_outcome = <Result<
                        (),
                        Error,
                    > as ::outbox::__private::Outcome>::VTABLE;
                    let mut __outbox_transaction = match ::outbox::__private::BeginOutbox::begin_outbox({
                            use ::outbox::__private::Lend as _;
                            (self.tx).__outbox_lend()
                        })
                        .await
                    {
                        ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                        ::core::result::Result::Err(__outbox_error) => {
                            return __outbox_outcome.error(__outbox_error);
                        }
                    };
                    let __outbox_run = ::outbox::__private::body(
                        &__outbox_transaction,
                        async |tx| {
                            if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                .never()
                            {
                                return __outbox_result;
                            }
                            self.count += 1;
                            Ok(())
                        },
                    );
                    let __outbox_held = match __outbox_outcome
                        .hold(__outbox_run(&mut __outbox_transaction).await)
                    {
                        ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                        ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                    };
                    ::outbox::__private::finish(
                            __outbox_transaction,
                            __outbox_held,
                            __outbox_outcome,
                        )
                        .await
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
                        let __outbox_outcome = <Result<
                            (),
                            Error,
                        > as ::outbox::__private::Outcome>::VTABLE;
                        let mut __outbox_transaction = match ::outbox::__private::BeginOutbox::begin_outbox(
                                &(self.outbox),
                            )
                            .await
                        {
                            ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                            ::core::result::Result::Err(__outbox_error) => {
                                return __outbox_outcome.error(__outbox_error);
                            }
                        };
                        let __outbox_run = ::outbox::__private::body(
                            &__outbox_transaction,
                            async move |tx| {
                                if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                    .never()
                                {
                                    return __outbox_result;
                                }
                                let __self = self;
                                tx.emit(Created)?;
                                Ok(())
                            },
                        );
                        let __outbox_held = match __outbox_outcome
                            .hold(__outbox_run(&mut __outbox_transaction).await)
                        {
                            ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                            ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                        };
                        ::outbox::__private::finish(
                                __outbox_transaction,
                                __outbox_held,
                                __outbox_outcome,
                            )
                            .await
                    })
                }
            }
        "#]],
    );
}

#[test]
fn documentation_shows_real_expansions() {
    let create_order = quote! {
        pub async fn create_order(&self, customer: String) -> Result<(), OutboxError> {
            tx.emit(OrderCreated { customer })?;
            Ok(())
        }
    };
    let plain = attribute(quote!(tx in self.outbox), create_order.clone());
    expect_file!["../../docs/transactional_outbox.md"].assert_eq(&documented(plain));
    let retry =
        attribute(quote!(tx in self.outbox, isolation = "serializable", retry = 3), create_order);
    expect_file!["../../docs/transactional_outbox_retry.md"].assert_eq(&documented(retry));
}

#[test]
fn retry_with_patterns_and_cfg() {
    expands(
        quote!(tx in outbox, retry = 2, name = "create order", isolation = "repeatable read"),
        quote! {
            async fn create(
                outbox: &Outbox<Db>,
                mut order: Order,
                (a, mut b): (u8, u8),
                Id { id, tenant: [first, ..] }: Id,
                #[cfg(feature = "audit")] auditor: Auditor,
                _: u8,
                _unused: u8,
                _used: u8,
            ) -> Result<Order, Error> {
                println!("{_used:?}");
                Ok(order)
            }
        },
        expect![[r#"
            impl Service {
                async fn create(
                    outbox: &Outbox<Db>,
                    mut order: Order,
                    (a, mut b): (u8, u8),
                    Id { id, tenant: [first, ..] }: Id,
                    #[cfg(feature = "audit")]
                    auditor: Auditor,
                    _: u8,
                    _unused: u8,
                    _used: u8,
                ) -> Result<Order, Error> {
                    let __outbox_outcome = <Result<
                        Order,
                        Error,
                    > as ::outbox::__private::Outcome>::VTABLE;
                    let mut __outbox_attempts = ::outbox::__private::Attempts::new(
                        "create order",
                        2,
                        ::outbox::__private::TxOptions::new()
                            .isolation(::outbox::__private::Isolation::RepeatableRead)
                            .name("create order"),
                    );
                    loop {
                        let outbox = ::outbox::__private::RetryArgument::of_attempt(&outbox);
                        let mut order = ::outbox::__private::RetryArgument::of_attempt(&mut order);
                        let a = ::outbox::__private::RetryArgument::of_attempt(&a);
                        let mut b = ::outbox::__private::RetryArgument::of_attempt(&mut b);
                        let id = ::outbox::__private::RetryArgument::of_attempt(&id);
                        let first = ::outbox::__private::RetryArgument::of_attempt(&first);
                        #[cfg(feature = "audit")]
                        let auditor = ::outbox::__private::RetryArgument::of_attempt(&auditor);
                        let _used = ::outbox::__private::RetryArgument::of_attempt(&_used);
                        let __outbox_begun = ::outbox::__private::BeginTransaction::begin_transaction(
                                &(outbox),
                                __outbox_attempts.options(),
                            )
                            .await;
                        let mut __outbox_transaction = match __outbox_attempts
                            .begun(__outbox_begun)
                            .await
                        {
                            ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                            ::core::result::Result::Err(::core::option::Option::None) => continue,
                            ::core::result::Result::Err(
                                ::core::option::Option::Some(__outbox_error),
                            ) => return __outbox_outcome.error(__outbox_error),
                        };
                        let __outbox_run = ::outbox::__private::body(
                            &__outbox_transaction,
                            async move |tx| {
                                if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                    .never()
                                {
                                    return __outbox_result;
                                }
                                println!("{_used:?}");
                                Ok(order)
                            },
                        );
                        let (__outbox_result, __outbox_conflict) = __outbox_outcome
                            .search(__outbox_run(&mut __outbox_transaction).await);
                        let __outbox_held = match __outbox_attempts
                            .hold(
                                &__outbox_transaction,
                                __outbox_conflict,
                                __outbox_outcome.hold(__outbox_result),
                            )
                        {
                            ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                            ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                        };
                        let __outbox_result = __outbox_attempts
                            .finish(__outbox_transaction, __outbox_held, __outbox_outcome)
                            .await;
                        if let ::core::option::Option::Some(__outbox_result) = __outbox_result {
                            break __outbox_result;
                        }
                    }
                }
            }
        "#]],
    );
}

#[test]
fn retry_borrows_an_arc() {
    expands(
        quote!(tx in self.outbox, retry = 2),
        quote! {
            async fn create(self: Arc<Self>) -> Result<(), Error> {
                Ok(())
            }
        },
        expect![[r#"
            impl Service {
                async fn create(self: Arc<Self>) -> Result<(), Error> {
                    let __outbox_outcome = <Result<
                        (),
                        Error,
                    > as ::outbox::__private::Outcome>::VTABLE;
                    let mut __outbox_attempts = ::outbox::__private::Attempts::new(
                        "create",
                        2,
                        ::outbox::__private::TxOptions::new(),
                    );
                    loop {
                        let __outbox_begun = ::outbox::__private::BeginTransaction::begin_transaction(
                                &(self.outbox),
                                __outbox_attempts.options(),
                            )
                            .await;
                        let mut __outbox_transaction = match __outbox_attempts
                            .begun(__outbox_begun)
                            .await
                        {
                            ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                            ::core::result::Result::Err(::core::option::Option::None) => continue,
                            ::core::result::Result::Err(
                                ::core::option::Option::Some(__outbox_error),
                            ) => return __outbox_outcome.error(__outbox_error),
                        };
                        let __outbox_run = ::outbox::__private::body(
                            &__outbox_transaction,
                            async |tx| {
                                if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                    .never()
                                {
                                    return __outbox_result;
                                }
                                Ok(())
                            },
                        );
                        let (__outbox_result, __outbox_conflict) = __outbox_outcome
                            .search(__outbox_run(&mut __outbox_transaction).await);
                        let __outbox_held = match __outbox_attempts
                            .hold(
                                &__outbox_transaction,
                                __outbox_conflict,
                                __outbox_outcome.hold(__outbox_result),
                            )
                        {
                            ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                            ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                        };
                        let __outbox_result = __outbox_attempts
                            .finish(__outbox_transaction, __outbox_held, __outbox_outcome)
                            .await;
                        if let ::core::option::Option::Some(__outbox_result) = __outbox_result {
                            break __outbox_result;
                        }
                    }
                }
            }
        "#]],
    );
}

#[test]
fn options_without_retry() {
    expands(
        quote!(t in pool, isolation = "read committed", name = "x"),
        quote! {
            async fn create(pool: &PgPool) -> Result<(), Error> {
                Ok(())
            }
        },
        expect![[r#"
            impl Service {
                async fn create(pool: &PgPool) -> Result<(), Error> {
                    let __outbox_outcome = <Result<
                        (),
                        Error,
                    > as ::outbox::__private::Outcome>::VTABLE;
                    let mut __outbox_transaction = match ::outbox::__private::BeginTransaction::begin_transaction(
                            &(pool),
                            ::outbox::__private::TxOptions::new()
                                .isolation(::outbox::__private::Isolation::ReadCommitted)
                                .name("x"),
                        )
                        .await
                    {
                        ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                        ::core::result::Result::Err(__outbox_error) => {
                            return __outbox_outcome.error(__outbox_error);
                        }
                    };
                    let __outbox_run = ::outbox::__private::body(
                        &__outbox_transaction,
                        async move |t| {
                            if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                .never()
                            {
                                return __outbox_result;
                            }
                            Ok(())
                        },
                    );
                    let __outbox_held = match __outbox_outcome
                        .hold(__outbox_run(&mut __outbox_transaction).await)
                    {
                        ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                        ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                    };
                    ::outbox::__private::finish(
                            __outbox_transaction,
                            __outbox_held,
                            __outbox_outcome,
                        )
                        .await
                }
            }
        "#]],
    );
}

#[test]
fn function_returning_a_future() {
    expands(
        quote!(tx in self.0),
        quote! {
            fn create(&self, id: u64) -> impl Future<Output = Result<u64, Error>> + Send {
                let id = id + 1;
                async move { Ok(id) }
            }
        },
        expect![[r#"
            impl Service {
                fn create(&self, id: u64) -> impl Future<Output = Result<u64, Error>> + Send {
                    let id = id + 1;
                    async move {
                        let __outbox_outcome = <Result<
                            u64,
                            Error,
                        > as ::outbox::__private::Outcome>::VTABLE;
                        let mut __outbox_transaction = match ::outbox::__private::BeginOutbox::begin_outbox(
                                &(self.0),
                            )
                            .await
                        {
                            ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                            ::core::result::Result::Err(__outbox_error) => {
                                return __outbox_outcome.error(__outbox_error);
                            }
                        };
                        let __outbox_run = ::outbox::__private::body(
                            &__outbox_transaction,
                            async move |tx| {
                                if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                    .never()
                                {
                                    return __outbox_result;
                                }
                                Ok(id)
                            },
                        );
                        let __outbox_held = match __outbox_outcome
                            .hold(__outbox_run(&mut __outbox_transaction).await)
                        {
                            ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                            ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                        };
                        ::outbox::__private::finish(
                                __outbox_transaction,
                                __outbox_held,
                                __outbox_outcome,
                            )
                            .await
                    }
                }
            }
        "#]],
    );
}

#[test]
fn inner_attributes_stay_at_the_beginning() {
    expands(
        quote!(tx in outbox),
        quote! {
            async fn create(outbox: &Outbox<Db>) -> Result<(), Error> {
                #![allow(unused)]
                Ok(())
            }
        },
        expect![[r#"
            impl Service {
                async fn create(outbox: &Outbox<Db>) -> Result<(), Error> {
                    #![allow(unused)]
                    let __outbox_outcome = <Result<
                        (),
                        Error,
                    > as ::outbox::__private::Outcome>::VTABLE;
                    let mut __outbox_transaction = match ::outbox::__private::BeginOutbox::begin_outbox(
                            &(outbox),
                        )
                        .await
                    {
                        ::core::result::Result::Ok(__outbox_transaction) => __outbox_transaction,
                        ::core::result::Result::Err(__outbox_error) => {
                            return __outbox_outcome.error(__outbox_error);
                        }
                    };
                    let __outbox_run = ::outbox::__private::body(
                        &__outbox_transaction,
                        async move |tx| {
                            if let ::core::option::Option::Some(__outbox_result) = __outbox_outcome
                                .never()
                            {
                                return __outbox_result;
                            }
                            Ok(())
                        },
                    );
                    let __outbox_held = match __outbox_outcome
                        .hold(__outbox_run(&mut __outbox_transaction).await)
                    {
                        ::core::result::Result::Ok(__outbox_held) => __outbox_held,
                        ::core::result::Result::Err(__outbox_result) => return __outbox_result,
                    };
                    ::outbox::__private::finish(
                            __outbox_transaction,
                            __outbox_held,
                            __outbox_outcome,
                        )
                        .await
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
    let args = quote!(tx in self.outbox.get::<A, B>(1)?, isolation = "serializable", retry = 3, name = "x", crate = a::b);
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
        for broken in broken(&item) {
            let output = attribute(args.clone(), broken.clone());
            assert!(keeps(output, broken.clone()), "lost tokens of: {broken}");
        }
        for args in prefixes(&args).into_iter().chain(broken(&args)) {
            let output = attribute(args.clone(), item.clone());
            assert!(keeps(output, item.clone()), "lost tokens of the item with: {args}");
        }
    }
}
