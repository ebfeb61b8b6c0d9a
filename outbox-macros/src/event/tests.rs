use expect_test::{Expect, expect, expect_file};
use proc_macro2::TokenStream;
use quote::quote;

use super::Contracts;
use crate::testing::{broken, documented, prefixes, pretty};

fn derive(item: TokenStream) -> TokenStream {
    super::derive(item, Contracts::Off)
}

fn expands(item: TokenStream, expected: Expect) {
    expected.assert_eq(&pretty(derive(item)));
}

#[test]
fn struct_with_all_there_is() {
    expands(
        quote! {
            #[event(topic = "order-events", name = "order.created", version = 2)]
            pub struct OrderCreated {
                #[event(id)]
                pub event_id: Uuid,
                #[event(key)]
                pub region: String,
                #[event(key, header = "x-customer")]
                pub customer_id: Uuid,
                #[event(header)]
                pub tenant: String,
                #[event(occurred_at)]
                pub at: SystemTime,
            }
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::DomainEvent for OrderCreated {
                    type Codec = ::outbox::__private::Json;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[
                        ::outbox::__private::EventDescriptor::new(
                            "order-events",
                            "order.created",
                            2,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &["region", "customer_id"],
                            &["x-customer", "tenant"],
                        ),
                    ];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[0]
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        ::core::option::Option::Some(
                            ::outbox::__private::event_key(&[&self.region, &self.customer_id]),
                        )
                    }
                    fn headers(&self, __outbox_headers: &mut ::outbox::__private::Headers) {
                        ::outbox::__private::Headers::insert(
                            __outbox_headers,
                            "x-customer",
                            &self.customer_id,
                        );
                        ::outbox::__private::Headers::insert(
                            __outbox_headers,
                            "tenant",
                            &self.tenant,
                        );
                    }
                    fn id(&self) -> ::core::option::Option<::outbox::__private::Uuid> {
                        ::core::option::Option::Some(
                            ::outbox::__private::EventId::event_id(&self.event_id),
                        )
                    }
                    fn occurred_at(&self) -> ::core::option::Option<::std::time::SystemTime> {
                        ::core::option::Option::Some(
                            ::outbox::__private::EventTime::event_time(&self.at),
                        )
                    }
                }
            };
        "#]],
    );
}

#[test]
fn enum_with_a_keyless_variant() {
    expands(
        quote! {
            #[event(topic = topics::ORDERS)]
            enum OrderEvent {
                #[event(name = "order.placed")]
                Placed { #[event(key)] order: u64, #[event(header)] tenant: String },
                #[event(topic = "payments")]
                Paid(#[event(key)] u64),
                #[event(keyless)]
                Audited,
            }
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::DomainEvent for OrderEvent {
                    type Codec = ::outbox::__private::Json;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[
                        ::outbox::__private::EventDescriptor::new(
                            topics::ORDERS,
                            "order.placed",
                            1,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &["order"],
                            &["tenant"],
                        ),
                        ::outbox::__private::EventDescriptor::new(
                            "payments",
                            "Paid",
                            1,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &["0"],
                            &[],
                        ),
                        ::outbox::__private::EventDescriptor::new(
                            topics::ORDERS,
                            "Audited",
                            1,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &[],
                            &[],
                        ),
                    ];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        match self {
                            Self::Placed { .. } => {
                                &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[0]
                            }
                            Self::Paid { .. } => {
                                &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[1]
                            }
                            Self::Audited { .. } => {
                                &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[2]
                            }
                        }
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        match self {
                            Self::Placed { order: __outbox_field0, .. } => {
                                ::core::option::Option::Some(
                                    ::outbox::__private::event_key(&[__outbox_field0]),
                                )
                            }
                            Self::Paid { 0: __outbox_field0, .. } => {
                                ::core::option::Option::Some(
                                    ::outbox::__private::event_key(&[__outbox_field0]),
                                )
                            }
                            Self::Audited { .. } => ::core::option::Option::None,
                        }
                    }
                    fn headers(&self, __outbox_headers: &mut ::outbox::__private::Headers) {
                        match self {
                            Self::Placed { tenant: __outbox_field0, .. } => {
                                ::outbox::__private::Headers::insert(
                                    __outbox_headers,
                                    "tenant",
                                    __outbox_field0,
                                );
                            }
                            Self::Paid { .. } | Self::Audited { .. } => {}
                        }
                    }
                    fn encode_payload<__Codec: ::outbox::__private::Encode<Self>>(
                        &self,
                        __outbox_out: &mut ::std::vec::Vec<::core::primitive::u8>,
                    ) -> ::core::result::Result<(), ::outbox::__private::CodecError> {
                        <__Codec as ::outbox::__private::Encode<
                            Self,
                        >>::encode_variant(self, __outbox_out)
                    }
                    fn decode_payload<__Codec: ::outbox::__private::Decode<Self>>(
                        __outbox_event: ::outbox::__private::EventKind<'_>,
                        __outbox_payload: &[::core::primitive::u8],
                    ) -> ::core::option::Option<
                        ::core::result::Result<Self, ::outbox::__private::CodecError>,
                    > {
                        ::outbox::__private::decode_variant::<
                            Self,
                            __Codec,
                        >(
                            &[
                                ::outbox::__private::Variant::new(
                                    "Placed",
                                    ::core::option::Option::Some(0),
                                ),
                                ::outbox::__private::Variant::new(
                                    "Paid",
                                    ::core::option::Option::Some(1),
                                ),
                                ::outbox::__private::Variant::new(
                                    "Audited",
                                    ::core::option::Option::Some(2),
                                ),
                            ],
                            __outbox_event,
                            __outbox_payload,
                        )
                    }
                }
                const _: &[::outbox::__private::EventDescriptor] = <OrderEvent as ::outbox::__private::DomainEvent>::DESCRIPTORS;
            };
        "#]],
    );
}

#[test]
fn generic_event_elsewhere() {
    expands(
        quote! {
            #[event(crate = crate::events, topic = "changes", codec = Avro<T>)]
            struct Changed<'a, T: Clone, const N: usize>
            where
                T: 'a,
            {
                #[event(key)]
                id: &'a T,
                states: [T; N],
            }
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl<'a, T: Clone, const N: usize> crate::events::__private::DomainEvent
                for Changed<'a, T, N>
                where
                    T: 'a,
                    Avro<T>: crate::events::__private::Encode<Self>,
                    &'a T: crate::events::__private::EventKey,
                {
                    type Codec = Avro<T>;
                    const DESCRIPTORS: &'static [crate::events::__private::EventDescriptor] = &[
                        crate::events::__private::EventDescriptor::new(
                            "changes",
                            "Changed",
                            1,
                            <Self as crate::events::__private::DomainEvent>::CONTENT_TYPE,
                            &["id"],
                            &[],
                        ),
                    ];
                    fn descriptor(&self) -> &'static crate::events::__private::EventDescriptor {
                        &<Self as crate::events::__private::DomainEvent>::DESCRIPTORS[0]
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        ::core::option::Option::Some(
                            crate::events::__private::event_key(&[&self.id]),
                        )
                    }
                }
            };
        "#]],
    );
}

#[test]
fn documentation_shows_a_real_expansion() {
    let order_created = quote! {
        #[event(topic = "order-events", name = "order.created")]
        pub struct OrderCreated {
            pub order_id: Uuid,
            #[event(key)]
            pub customer_id: Uuid,
            #[event(header)]
            pub tenant: String,
        }
    };
    expect_file!["../../docs/domain_event.md"].assert_eq(&documented(derive(order_created)));
}

#[test]
fn tuple_with_a_raw_name() {
    expands(
        quote! {
            #[event(topic = "t")]
            struct r#Struct(#[event(key)] u64, #[event(header = "x-type")] r#Type);
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::DomainEvent for r#Struct {
                    type Codec = ::outbox::__private::Json;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[
                        ::outbox::__private::EventDescriptor::new(
                            "t",
                            "Struct",
                            1,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &["0"],
                            &["x-type"],
                        ),
                    ];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[0]
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        ::core::option::Option::Some(::outbox::__private::event_key(&[&self.0]))
                    }
                    fn headers(&self, __outbox_headers: &mut ::outbox::__private::Headers) {
                        ::outbox::__private::Headers::insert(__outbox_headers, "x-type", &self.1);
                    }
                }
            };
        "#]],
    );
}

/// They are keywords in the edition of this crate, and what is written for the user has its
/// edition.
#[test]
fn names_that_are_keywords_only_in_later_editions_are_escaped() {
    let expanded = derive(quote! {
        #[event(topic = "t")]
        enum E { gen { #[event(key)] gen: u64 } }
    });
    let expanded = expanded.to_string();
    assert!(expanded.contains("Self :: r#gen { r#gen : __outbox_field0"), "{expanded}");
}

#[test]
fn keyless_duplicate() {
    expands(
        quote! {
            #[event(topic = "t", keyless, duplicate)]
            struct Midnight;
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::DomainEvent for Midnight {
                    type Codec = ::outbox::__private::Json;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[
                        ::outbox::__private::EventDescriptor::new(
                            "t",
                            "Midnight",
                            1,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &[],
                            &[],
                        ),
                    ];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[0]
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        ::core::option::Option::None
                    }
                }
            };
        "#]],
    );
}

#[test]
fn enum_of_one_event_in_two_versions() {
    expands(
        quote! {
            #[event(topic = "t", version = 2)]
            enum Created {
                #[event(name = "created", version = 1)]
                V1 { #[event(key)] id: u64, #[event(id)] event: Uuid },
                #[event(name = "created")]
                V2 { #[event(key)] id: u64, #[event(occurred_at)] at: DateTime<Utc> },
            }
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::DomainEvent for Created {
                    type Codec = ::outbox::__private::Json;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[
                        ::outbox::__private::EventDescriptor::new(
                            "t",
                            "created",
                            1,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &["id"],
                            &[],
                        ),
                        ::outbox::__private::EventDescriptor::new(
                            "t",
                            "created",
                            2,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &["id"],
                            &[],
                        ),
                    ];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        match self {
                            Self::V1 { .. } => {
                                &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[0]
                            }
                            Self::V2 { .. } => {
                                &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[1]
                            }
                        }
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        match self {
                            Self::V1 { id: __outbox_field0, .. } => {
                                ::core::option::Option::Some(
                                    ::outbox::__private::event_key(&[__outbox_field0]),
                                )
                            }
                            Self::V2 { id: __outbox_field0, .. } => {
                                ::core::option::Option::Some(
                                    ::outbox::__private::event_key(&[__outbox_field0]),
                                )
                            }
                        }
                    }
                    fn id(&self) -> ::core::option::Option<::outbox::__private::Uuid> {
                        match self {
                            Self::V1 { event: __outbox_field0, .. } => {
                                ::core::option::Option::Some(
                                    ::outbox::__private::EventId::event_id(__outbox_field0),
                                )
                            }
                            Self::V2 { .. } => ::core::option::Option::None,
                        }
                    }
                    fn occurred_at(&self) -> ::core::option::Option<::std::time::SystemTime> {
                        match self {
                            Self::V2 { at: __outbox_field0, .. } => {
                                ::core::option::Option::Some(
                                    ::outbox::__private::EventTime::event_time(__outbox_field0),
                                )
                            }
                            Self::V1 { .. } => ::core::option::Option::None,
                        }
                    }
                    fn encode_payload<__Codec: ::outbox::__private::Encode<Self>>(
                        &self,
                        __outbox_out: &mut ::std::vec::Vec<::core::primitive::u8>,
                    ) -> ::core::result::Result<(), ::outbox::__private::CodecError> {
                        <__Codec as ::outbox::__private::Encode<
                            Self,
                        >>::encode_variant(self, __outbox_out)
                    }
                    fn decode_payload<__Codec: ::outbox::__private::Decode<Self>>(
                        __outbox_event: ::outbox::__private::EventKind<'_>,
                        __outbox_payload: &[::core::primitive::u8],
                    ) -> ::core::option::Option<
                        ::core::result::Result<Self, ::outbox::__private::CodecError>,
                    > {
                        ::outbox::__private::decode_variant::<
                            Self,
                            __Codec,
                        >(
                            &[
                                ::outbox::__private::Variant::new(
                                    "V1",
                                    ::core::option::Option::Some(0),
                                ),
                                ::outbox::__private::Variant::new(
                                    "V2",
                                    ::core::option::Option::Some(1),
                                ),
                            ],
                            __outbox_event,
                            __outbox_payload,
                        )
                    }
                }
            };
        "#]],
    );
}

#[test]
fn version_that_reads_the_one_before() {
    expands(
        quote! {
            #[event(topic = "t", version = 2, upcast_from = v1::Created, duplicate)]
            struct Created(#[event(key)] u64);
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::DomainEvent for Created {
                    type Codec = ::outbox::__private::Json;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[
                        ::outbox::__private::EventDescriptor::new(
                            "t",
                            "Created",
                            2,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &["0"],
                            &[],
                        ),
                    ];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[0]
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        ::core::option::Option::Some(::outbox::__private::event_key(&[&self.0]))
                    }
                    fn decode_payload<__Codec: ::outbox::__private::Decode<Self>>(
                        __outbox_event: ::outbox::__private::EventKind<'_>,
                        __outbox_payload: &[::core::primitive::u8],
                    ) -> ::core::option::Option<
                        ::core::result::Result<Self, ::outbox::__private::CodecError>,
                    > {
                        ::outbox::__private::decode_own::<
                            Self,
                            __Codec,
                        >(__outbox_event, __outbox_payload)
                            .or_else(|| ::outbox::__private::upcast(
                                <v1::Created as ::outbox::__private::Readable>::read(
                                    __outbox_event,
                                    __outbox_payload,
                                ),
                                <Self as ::outbox::__private::UpcastFrom<v1::Created>>::upcast_from,
                            ))
                    }
                    fn older_versions() -> ::std::vec::Vec<::outbox::__private::EventDescriptor> {
                        <[_]>::concat(&[<v1::Created as ::outbox::__private::Readable>::versions()])
                    }
                }
                const _: () = ::core::assert!(
                    ::outbox::__private::is_next_version(< v1::Created as
                    ::outbox::__private::Readable > ::DESCRIPTORS, & < Created as
                    ::outbox::__private::DomainEvent > ::DESCRIPTORS[0],),
                    "`Created` is version 2 of its event: `upcast_from` takes the type of version 1 of the same topic and name"
                );
            };
        "#]],
    );
}

#[test]
fn generic_version_that_reads_the_one_before() {
    expands(
        quote! {
            #[event(topic = "t", version = 2, upcast_from = v1::Created<T>, duplicate)]
            struct Created<T>(#[event(key)] u64, T);
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl<T> ::outbox::__private::DomainEvent for Created<T>
                where
                    ::outbox::__private::Json: ::outbox::__private::Encode<Self>,
                    v1::Created<T>: ::outbox::__private::Readable + ::core::convert::Into<Self>,
                {
                    type Codec = ::outbox::__private::Json;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[
                        ::outbox::__private::EventDescriptor::new(
                            "t",
                            "Created",
                            2,
                            <Self as ::outbox::__private::DomainEvent>::CONTENT_TYPE,
                            &["0"],
                            &[],
                        ),
                    ];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        &<Self as ::outbox::__private::DomainEvent>::DESCRIPTORS[0]
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        ::core::option::Option::Some(::outbox::__private::event_key(&[&self.0]))
                    }
                    fn decode_payload<__Codec: ::outbox::__private::Decode<Self>>(
                        __outbox_event: ::outbox::__private::EventKind<'_>,
                        __outbox_payload: &[::core::primitive::u8],
                    ) -> ::core::option::Option<
                        ::core::result::Result<Self, ::outbox::__private::CodecError>,
                    > {
                        ::outbox::__private::decode_own::<
                            Self,
                            __Codec,
                        >(__outbox_event, __outbox_payload)
                            .or_else(|| ::outbox::__private::upcast(
                                <v1::Created<
                                    T,
                                > as ::outbox::__private::Readable>::read(
                                    __outbox_event,
                                    __outbox_payload,
                                ),
                                <Self as ::outbox::__private::UpcastFrom<
                                    v1::Created<T>,
                                >>::upcast_from,
                            ))
                    }
                    fn older_versions() -> ::std::vec::Vec<::outbox::__private::EventDescriptor> {
                        <[_]>::concat(
                            &[<v1::Created<T> as ::outbox::__private::Readable>::versions()],
                        )
                    }
                }
            };
        "#]],
    );
}

#[test]
fn transparent_enum() {
    expands(
        quote! {
            #[event(transparent)]
            enum OrderEvent<T> {
                #[event(upcast_from = PlacedV1)]
                Placed(Placed),
                Changed { event: Box<Changed<T>> },
            }
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl<T> ::outbox::__private::Transparent for OrderEvent<T>
                where
                    Box<Changed<T>>: ::outbox::__private::DomainEvent,
                {
                    const INNER: &'static [&'static [::outbox::__private::EventDescriptor]] = &[
                        <Placed as ::outbox::__private::DomainEvent>::DESCRIPTORS,
                        <Box<Changed<T>> as ::outbox::__private::DomainEvent>::DESCRIPTORS,
                    ];
                    fn inner(&self) -> &dyn ::outbox::__private::InnerEvent {
                        match self {
                            Self::Placed { 0: __outbox_inner } => {
                                <Placed as ::outbox::__private::DomainEvent>::as_inner(
                                    __outbox_inner,
                                )
                            }
                            Self::Changed { event: __outbox_inner } => {
                                <Box<
                                    Changed<T>,
                                > as ::outbox::__private::DomainEvent>::as_inner(__outbox_inner)
                            }
                        }
                    }
                }
                #[automatically_derived]
                impl<T> ::outbox::__private::DomainEvent for OrderEvent<T>
                where
                    Box<Changed<T>>: ::outbox::__private::DomainEvent,
                {
                    type Codec = ::outbox::__private::Inner;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = ::outbox::__private::Joined::<
                        Self,
                    >::DESCRIPTORS;
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        ::outbox::__private::InnerEvent::descriptor(
                            ::outbox::__private::Transparent::inner(self),
                        )
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        ::outbox::__private::InnerEvent::key(
                            ::outbox::__private::Transparent::inner(self),
                        )
                    }
                    fn headers(&self, __outbox_headers: &mut ::outbox::__private::Headers) {
                        ::outbox::__private::InnerEvent::headers(
                            ::outbox::__private::Transparent::inner(self),
                            __outbox_headers,
                        );
                    }
                    fn id(&self) -> ::core::option::Option<::outbox::__private::Uuid> {
                        ::outbox::__private::InnerEvent::id(
                            ::outbox::__private::Transparent::inner(self),
                        )
                    }
                    fn occurred_at(&self) -> ::core::option::Option<::std::time::SystemTime> {
                        ::outbox::__private::InnerEvent::occurred_at(
                            ::outbox::__private::Transparent::inner(self),
                        )
                    }
                    fn decode_payload<__Codec: ::outbox::__private::Decode<Self>>(
                        __outbox_event: ::outbox::__private::EventKind<'_>,
                        __outbox_payload: &[::core::primitive::u8],
                    ) -> ::core::option::Option<
                        ::core::result::Result<Self, ::outbox::__private::CodecError>,
                    > {
                        <__Codec as ::outbox::__private::Decode<
                            Self,
                        >>::decode_inner(__outbox_event, __outbox_payload)
                    }
                    fn older_versions() -> ::std::vec::Vec<::outbox::__private::EventDescriptor> {
                        <[_]>::concat(
                            &[
                                <Placed as ::outbox::__private::DomainEvent>::older_versions(),
                                <PlacedV1 as ::outbox::__private::Readable>::versions(),
                                <Box<
                                    Changed<T>,
                                > as ::outbox::__private::DomainEvent>::older_versions(),
                            ],
                        )
                    }
                }
                #[automatically_derived]
                impl<T> ::outbox::__private::DecodeInner for OrderEvent<T>
                where
                    for<'__inner> Placed: ::outbox::__private::Readable,
                    Box<Changed<T>>: ::outbox::__private::Readable,
                {
                    fn decode_inner(
                        __outbox_event: ::outbox::__private::EventKind<'_>,
                        __outbox_payload: &[::core::primitive::u8],
                    ) -> ::core::option::Option<
                        ::core::result::Result<Self, ::outbox::__private::CodecError>,
                    > {
                        ::core::option::Option::None
                            .or_else(|| ::outbox::__private::read_inner::<
                                Placed,
                                Self,
                            >(
                                __outbox_event,
                                __outbox_payload,
                                |__outbox_inner| Self::Placed { 0: __outbox_inner },
                            ))
                            .or_else(|| ::outbox::__private::upcast(
                                <PlacedV1 as ::outbox::__private::Readable>::read(
                                    __outbox_event,
                                    __outbox_payload,
                                ),
                                <Self as ::outbox::__private::UpcastFrom<PlacedV1>>::upcast_from,
                            ))
                            .or_else(|| ::outbox::__private::read_inner::<
                                Box<Changed<T>>,
                                Self,
                            >(
                                __outbox_event,
                                __outbox_payload,
                                |__outbox_inner| Self::Changed {
                                    event: __outbox_inner,
                                },
                            ))
                    }
                }
            };
        "#]],
    );
}

#[test]
fn version_that_is_only_read() {
    expands(
        quote! {
            #[event(topic = "t", name = "x", version = 2, read_only, upcast_from = v1::Created<T>, codec = Avro)]
            struct Created<T>(T) where T: Clone;
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl<T> ::outbox::__private::Readable for Created<T>
                where
                    T: Clone,
                    Avro: ::outbox::__private::Decode<Self>,
                    v1::Created<T>: ::outbox::__private::Readable + ::core::convert::Into<Self>,
                {
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[
                        ::outbox::__private::EventDescriptor::new(
                            "t",
                            "x",
                            2,
                            <Avro as ::outbox::__private::Codec>::CONTENT_TYPE,
                            &[],
                            &[],
                        ),
                    ];
                    fn read(
                        __outbox_event: ::outbox::__private::EventKind<'_>,
                        __outbox_payload: &[::core::primitive::u8],
                    ) -> ::core::option::Option<
                        ::core::result::Result<Self, ::outbox::__private::CodecError>,
                    > {
                        ::outbox::__private::read_own(
                                <Self as ::outbox::__private::Readable>::DESCRIPTORS,
                                __outbox_event,
                                __outbox_payload,
                                <Avro as ::outbox::__private::Decode<Self>>::decode,
                            )
                            .or_else(|| ::outbox::__private::upcast(
                                <v1::Created<
                                    T,
                                > as ::outbox::__private::Readable>::read(
                                    __outbox_event,
                                    __outbox_payload,
                                ),
                                <Self as ::outbox::__private::UpcastFrom<
                                    v1::Created<T>,
                                >>::upcast_from,
                            ))
                    }
                    fn versions() -> ::std::vec::Vec<::outbox::__private::EventDescriptor> {
                        <[_]>::concat(
                            &[
                                <[_]>::to_vec(<Self as ::outbox::__private::Readable>::DESCRIPTORS),
                                <v1::Created<T> as ::outbox::__private::Readable>::versions(),
                            ],
                        )
                    }
                }
                #[automatically_derived]
                impl<T> ::outbox::__private::DomainEvent for Created<T>
                where
                    T: Clone,
                    for<'__never> &'__never (): ::outbox::__private::NotReadOnly<Self>,
                {
                    type Codec = ::outbox::__private::Unreachable;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        <&() as ::outbox::__private::NotReadOnly<Self>>::never()
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        <&() as ::outbox::__private::NotReadOnly<Self>>::never()
                    }
                }
            };
        "#]],
    );
}

#[test]
fn every_mistake_and_a_stub() {
    expands(
        quote! {
            #[event(topic = "order events", nam = "x")]
            struct Created {
                #[event(key)]
                id: Option<u64>,
            }
        },
        expect![[r#"
            ::core::compile_error! {
                "unknown key `nam`\nhelp: did you mean `name`?"
            }
            ::core::compile_error! {
                "the name of a topic cannot have ' ' in it\nhelp: a Kafka topic is named with 1 to 249 letters, digits, `.`, `_` and `-`: `topic = \"order-events\"`"
            }
            ::core::compile_error! {
                "the key `id` can be `None`, and an event without a key has no order\nhelp: make the field non-optional, or use as key a field which always has a value,\n      or mark the event `#[event(keyless)]`"
            }
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::DomainEvent for Created {
                    type Codec = ::outbox::__private::Unreachable;
                    const DESCRIPTORS: &'static [::outbox::__private::EventDescriptor] = &[];
                    fn descriptor(&self) -> &'static ::outbox::__private::EventDescriptor {
                        ::core::unreachable!()
                    }
                    fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                        ::core::unreachable!()
                    }
                }
            };
        "#]],
    );
}

#[test]
fn half_typed_events_never_panic() {
    let items = [
        quote! {
            #[event(topic = "order-events", name = "order.created", version = 2, codec = a::B<C>, upcast_from = a::D<T>, read_only, crate = crate::outbox)]
            pub(crate) struct OrderCreated<'a, T: Clone, const N: usize> where T: 'a {
                #[event(key, id)]
                pub r#type: Uuid,
                #[event(header = "x-tenant")]
                #[serde(default)]
                tenant: Cow<'a, str>,
                #[event(occurred_at)]
                at: [T; N],
            }
        },
        quote! {
            #[event(topic = topics::ORDERS, keyless)]
            enum Event<T = ()> {
                #[event(name = "a", version = 2)]
                A(#[event(header = "x")] T, u8) = 1,
                B { c: u8 },
                C,
            }
        },
        quote!(#[event(topic = "t")] union U { #[event(key)] a: u8 }),
        quote! {
            #[event(transparent, crate = crate::outbox)]
            enum Event<'a, T> where T: 'a {
                #[event(upcast_from = a::B<T>)]
                A(&'a T),
                B { b: Box<u8> },
            }
        },
        quote!(
            #[event(transparent)]
            struct Traced(Placed);
        ),
    ];
    for item in items {
        for typed in prefixes(&item).into_iter().chain(broken(&item)) {
            derive(typed);
        }
    }
}
