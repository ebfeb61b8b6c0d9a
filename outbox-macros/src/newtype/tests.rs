use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

use super::{Target, derive};
use crate::testing::{broken, prefixes, pretty};

fn expands(target: Target, item: TokenStream, expected: Expect) {
    expected.assert_eq(&pretty(derive(target, item)));
}

#[test]
fn newtype_of_a_type_parameter() {
    expands(
        Target::Key,
        quote! {
            struct Id<T: Clone, U>(T, PhantomData<U>);
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl<T: Clone, U> ::outbox::__private::EventKey for Id<T, U>
                where
                    T: ::outbox::__private::EventKey,
                {
                    fn write_key(&self, __outbox_out: &mut ::std::vec::Vec<::core::primitive::u8>) {
                        ::outbox::__private::EventKey::write_key(&self.0, __outbox_out);
                    }
                }
            };
        "#]],
    );
}

#[test]
fn unit_enum_by_the_names_of_serde_and_its_own() {
    expands(
        Target::Header,
        quote! {
            #[event(crate = crate::events)]
            #[serde(rename_all = "kebab-case", tag = "t")]
            enum Region {
                EuWest,
                #[serde(rename(serialize = "us", deserialize = "u"), default)]
                UsEast,
                #[event(rename = "asia")]
                r#Asia {},
            }
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl crate::events::__private::HeaderValue for Region {
                    fn header_value(
                        &self,
                    ) -> ::core::option::Option<::std::borrow::Cow<'_, ::core::primitive::str>> {
                        <::core::primitive::str as crate::events::__private::HeaderValue>::header_value(
                            match self {
                                Self::EuWest { .. } => "eu-west",
                                Self::UsEast { .. } => "us",
                                Self::r#Asia { .. } => "asia",
                            },
                        )
                    }
                }
            };
        "#]],
    );
}

#[test]
fn several_fields_make_a_key() {
    expands(
        Target::Key,
        quote! {
            struct Line { order: u64, r#type: String }
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::EventKey for Line {
                    fn write_key(&self, __outbox_out: &mut ::std::vec::Vec<::core::primitive::u8>) {
                        ::std::vec::Vec::extend_from_slice(
                            __outbox_out,
                            &::outbox::__private::event_key(&[&self.order, &self.r#type]),
                        );
                    }
                }
            };
        "#]],
    );
}

#[test]
fn id_in_a_named_field() {
    expands(
        Target::Id,
        quote! {
            struct OrderEventId { id: Uuid }
        },
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl ::outbox::__private::EventId for OrderEventId {
                    fn event_id(&self) -> ::outbox::__private::Uuid {
                        ::outbox::__private::EventId::event_id(&self.id)
                    }
                }
            };
        "#]],
    );
}

#[test]
fn half_typed_newtypes_never_panic() {
    let items = [
        quote! {
            #[event(crate = a::b, rename_all = "snake_case")]
            #[serde(rename_all(serialize = "lowercase"))]
            enum E<T> {
                #[event(rename = "a")]
                A,
                #[serde(rename = "b")]
                B { c: T },
            }
        },
        quote!(
            #[event(crate = a)]
            struct S<'a, T>(&'a T, #[event(key)] PhantomData<T>)
            where
                T: 'a;
        ),
        quote!(
            union U {
                a: u8,
            }
        ),
    ];
    for item in items {
        for typed in prefixes(&item).into_iter().chain(broken(&item)) {
            for target in [Target::Key, Target::Header, Target::Id] {
                derive(target, typed.clone());
            }
        }
    }
}
