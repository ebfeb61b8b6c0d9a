//! `#[derive(Classify)]`: the class of an error, by its variant.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::ParseStream;
use syn::{Attribute, Data, DeriveInput, Fields, Meta, Path};

use crate::errors::{self, Errors};
use crate::grammar::{self, Once, flag, value};
use crate::symbol::{CLASSIFY, CRATE, PERMANENT, TRANSIENT};
use crate::tokens::{located, private};

const EXAMPLE: &str = "help: write `#[classify(permanent)]`";

/// A variant of the runtime's `ErrorClass`.
#[derive(Clone, Copy)]
enum Class {
    Transient,
    Permanent,
}

/// What `#[classify(…)]` says on a type or a variant.
#[derive(Default)]
struct Said {
    class: Option<Class>,
    krate: Once<Path>,
}

// Input:
//     #[derive(Classify)]
//     enum ReserveError {
//         #[classify(permanent)]
//         UnknownItem,
//         Database(sqlx::Error),
//     }
//
// Output:
//     impl Classify for ReserveError {
//         fn class(&self) -> ErrorClass {
//             match self {
//                 Self::UnknownItem { .. } => ErrorClass::Permanent,
//                 Self::Database { .. } => ErrorClass::Transient,
//             }
//         }
//     }
pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let errors = Errors::new();
    let of_type = Said::parse(&errors, &[PERMANENT, TRANSIENT, CRATE], &input.attrs);
    let private = private(of_type.krate.get());
    let otherwise = of_type.class.unwrap_or(Class::Transient);
    let name = |class: Class| match class {
        Class::Transient => quote!(#private::ErrorClass::Transient),
        Class::Permanent => quote!(#private::ErrorClass::Permanent),
    };
    let body = match &input.data {
        Data::Enum(data) if data.variants.is_empty() => quote!(match *self {}),
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                check_fields(&errors, &variant.fields, "variant");
                let said = Said::parse(&errors, &[PERMANENT, TRANSIENT], &variant.attrs);
                let class = name(said.class.unwrap_or(otherwise));
                let ident = located(&variant.ident);
                quote!(Self::#ident { .. } => #class,)
            });
            let arms: TokenStream = arms.collect();
            quote!(match self { #arms })
        }
        Data::Struct(data) => {
            check_fields(&errors, &data.fields, "struct");
            name(otherwise)
        }
        Data::Union(_) => name(otherwise),
    };
    let ident = located(&input.ident);
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let mut output = errors::to_tokens(&errors.into_vec());
    output.extend(quote! {
        const _: () = {
            #[automatically_derived]
            impl #impl_generics #private::Classify for #ident #ty_generics #where_clause {
                fn class(&self) -> #private::ErrorClass {
                    #body
                }
            }
        };
    });
    output
}

fn is_ours(attribute: &&Attribute) -> bool {
    attribute.path().is_ident(CLASSIFY)
}

fn check_fields(errors: &Errors, fields: &Fields, owner: &str) {
    for attribute in fields.iter().flat_map(|field| &field.attrs).filter(is_ours) {
        errors.over(attribute, format!("a field has no class\nhelp: put this on the {owner}"));
    }
}

impl Said {
    fn parse(errors: &Errors, words: &[&'static str], attributes: &[Attribute]) -> Self {
        let mut said = Self::default();
        for attribute in attributes.iter().filter(is_ours) {
            match &attribute.meta {
                Meta::List(list) if !list.tokens.is_empty() => {
                    let parsed = list.parse_args_with(|input: ParseStream<'_>| {
                        grammar::list(errors, input, |input| said.entry(words, input));
                        Ok(())
                    });
                    errors.ok(parsed);
                }
                _ => errors.over(attribute, format!("this names no class\n{EXAMPLE}")),
            }
        }
        said
    }

    fn entry(&mut self, words: &[&'static str], input: ParseStream<'_>) -> syn::Result<()> {
        let Some(word) = grammar::word(input) else {
            return Err(input.error(format!("expected a class\n{EXAMPLE}")));
        };
        let class = match &*word.to_string() {
            PERMANENT => Class::Permanent,
            TRANSIENT => Class::Transient,
            CRATE if words.contains(&CRATE) => {
                return self.krate.set(&word, value(&word, input, "crate = my_crate::outbox"));
            }
            CRATE => {
                return Err(syn::Error::new(
                    word.span(),
                    "`crate` does not go on a variant\nhelp: put it on the enum",
                ));
            }
            unknown => {
                let (_, help) = errors::suggestion(unknown, words);
                return Err(syn::Error::new(
                    word.span(),
                    format!("unknown class `{unknown}`\n{help}"),
                ));
            }
        };
        flag(&word, input)?;
        if self.class.replace(class).is_some() {
            return Err(syn::Error::new(
                word.span(),
                "an error has one class\nhelp: remove one of the two",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{broken, prefixes, pretty};

    #[test]
    fn classes_of_variants() {
        let expanded = derive(quote! {
            #[classify(permanent)]
            enum ReserveError<T: Clone> where T: Send {
                #[classify(permanent)]
                UnknownItem(T),
                Closed { since: u64 },
                #[classify(transient)]
                gen,
            }
        });
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl<T: Clone> ::outbox::__private::Classify for ReserveError<T>
                where
                    T: Send,
                {
                    fn class(&self) -> ::outbox::__private::ErrorClass {
                        match self {
                            Self::UnknownItem { .. } => ::outbox::__private::ErrorClass::Permanent,
                            Self::Closed { .. } => ::outbox::__private::ErrorClass::Permanent,
                            Self::r#gen { .. } => ::outbox::__private::ErrorClass::Transient,
                        }
                    }
                }
            };
        "#]]
        .assert_eq(&pretty(expanded));
    }

    #[test]
    fn a_struct_elsewhere() {
        let expanded = derive(quote! {
            #[classify(crate = crate::events)]
            struct TimedOut;
        });
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl crate::events::__private::Classify for TimedOut {
                    fn class(&self) -> crate::events::__private::ErrorClass {
                        crate::events::__private::ErrorClass::Transient
                    }
                }
            };
        "#]]
        .assert_eq(&pretty(expanded));
    }

    #[test]
    fn half_typed_errors_never_panic() {
        let item = quote! {
            #[classify(crate = a::b, permanent)]
            enum E<T> {
                #[classify(transient)]
                A(#[from] T),
                B { c: u8 },
            }
        };
        for item in prefixes(&item).into_iter().chain(broken(&item)) {
            derive(item);
        }
    }
}
