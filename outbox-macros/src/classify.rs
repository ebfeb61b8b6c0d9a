//! `#[derive(Classify)]`: the class of an error, by its variant.

mod words;

use proc_macro2::{Ident, Literal, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::ParseStream;
use syn::{Attribute, Data, DeriveInput, Field, Fields, LitStr, Meta, Path, Type};

use self::words::{class_of, other_word};
use crate::dependency;
use crate::errors::{self, Errors};
use crate::generics::{mentions_parameter, where_clause};
use crate::grammar::{self, Once, flag, value};
use crate::symbol::{CLASSIFY, CRATE, PERMANENT, TRANSIENT, TRANSPARENT};
use crate::tokens::{ends, local, located, private, private_at};

#[derive(Clone, Copy)]
enum Class {
    Transient,
    Permanent,
    /// That of the field.
    Transparent,
}

/// What `#[classify(…)]` says on a type or a variant.
#[derive(Default)]
struct Said {
    class: Option<Class>,
    krate: Once<Path>,
}

/// What all variants have in common, and the field types that are asked for their class.
struct Classes<'a> {
    errors: &'a Errors,
    krate: Option<&'a Path>,
    asked: Vec<&'a Type>,
}

// Input:
//     #[derive(Classify)]
//     enum ReserveError {
//         #[classify(permanent)]
//         UnknownItem,
//         #[classify(transparent)]
//         Price(#[from] PriceError),
//         Database(sqlx::Error),
//     }
//
// Output:
//     impl Classify for ReserveError {
//         fn class(&self) -> ErrorClass {
//             match self {
//                 Self::UnknownItem { .. } => ErrorClass::Permanent,
//                 Self::Price { 0: inner, .. } => Classify::class(inner),
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
    let of_type = Said::parse(&errors, &[PERMANENT, TRANSIENT, TRANSPARENT, CRATE], &input.attrs);
    dependency::check(&errors, of_type.krate.get(), CLASSIFY);
    let otherwise = of_type.class.unwrap_or(Class::Transient);
    let mut classes = Classes { errors: &errors, krate: of_type.krate.get(), asked: Vec::new() };
    let body = classes.body(&input, otherwise);
    let private = private(classes.krate);
    let ident = located(&input.ident);
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let asked = classes.asked.iter().filter(|ty| mentions_parameter(ty, &input.generics));
    let asked = asked.map(|ty| quote!(#ty: #private::Classify));
    let where_clause = where_clause(&input.generics, asked);
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

impl<'a> Classes<'a> {
    /// The body of `class`.
    fn body(&mut self, input: &'a DeriveInput, otherwise: Class) -> TokenStream {
        match &input.data {
            Data::Enum(data) if data.variants.is_empty() => quote!(match *self {}),
            Data::Enum(data) => {
                let arms = data.variants.iter().map(|variant| {
                    check_fields(self.errors, &variant.fields, "variant");
                    let words = [PERMANENT, TRANSIENT, TRANSPARENT];
                    let said = Said::parse(self.errors, &words, &variant.attrs).class;
                    let (binding, class) =
                        self.class(said.unwrap_or(otherwise), &variant.ident, &variant.fields);
                    let ident = located(&variant.ident);
                    quote!(Self::#ident { #binding .. } => #class,)
                });
                let arms: TokenStream = arms.collect();
                quote!(match self { #arms })
            }
            Data::Struct(data) => {
                check_fields(self.errors, &data.fields, "struct");
                let (binding, class) = self.class(otherwise, &input.ident, &data.fields);
                let binding = binding.map(|binding| quote!(let Self { #binding .. } = self;));
                quote!(#binding #class)
            }
            Data::Union(_) => self.class(otherwise, &input.ident, &Fields::Unit).1,
        }
    }

    /// The class of a variant, and the pattern of the field that it is read from.
    fn class(
        &mut self,
        class: Class,
        ident: &Ident,
        fields: &'a Fields,
    ) -> (Option<TokenStream>, TokenStream) {
        let private = private(self.krate);
        let transient = (None, quote!(#private::ErrorClass::Transient));
        match class {
            Class::Transient => return transient,
            Class::Permanent => return (None, quote!(#private::ErrorClass::Permanent)),
            Class::Transparent => {}
        }
        let (position, field) = match inner(fields) {
            Ok(inner) => inner,
            Err(problem) => {
                self.errors.at(ident.span(), format!("`{ident}` {problem}"));
                return transient;
            }
        };
        self.asked.push(&field.ty);
        // Located at the field's type: that is what may be no `Classify`.
        let (begin, _) = ends(&field.ty);
        let private = private_at(self.krate, begin);
        let member = match &field.ident {
            Some(ident) => TokenTree::Ident(located(ident)),
            None => TokenTree::Literal(Literal::usize_unsuffixed(position)),
        };
        let inner = local("inner");
        let mut used = inner.clone();
        used.set_span(begin);
        let class = quote_spanned!(begin=> #private::Classify::class(#used));
        (Some(quote!(#member: #inner,)), class)
    }
}

/// The field whose class a variant has: the only one, or the one that is its cause.
fn inner(fields: &Fields) -> Result<(usize, &Field), &'static str> {
    let is_cause = |(_, field): &(usize, &Field)| {
        let mut attributes = field.attrs.iter().map(Attribute::path);
        attributes.any(|path| path.is_ident("from") || path.is_ident("source"))
            || field.ident.as_ref().is_some_and(|ident| ident == "source")
    };
    let mut causes = fields.iter().enumerate().filter(is_cause);
    match (fields.len(), causes.next(), causes.next()) {
        (0, ..) => Err(
            "has no field whose class it could have\nhelp: write `#[classify(permanent)]` or `#[classify(transient)]`",
        ),
        (1, ..) => fields.iter().enumerate().next().ok_or(""),
        (_, Some(cause), None) => Ok(cause),
        _ => Err(
            "has several fields: which of them has its class?\nhelp: mark that one `#[source]` or `#[from]`, or write `#[classify(permanent)]`",
        ),
    }
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
                meta => {
                    let text = match meta {
                        Meta::NameValue(given) => given.value.to_token_stream().to_string(),
                        _ => String::new(),
                    };
                    let class = class_of(text.trim_matches('"')).unwrap_or(PERMANENT);
                    errors.over(
                        attribute,
                        format!("this names no class\nhelp: write `#[classify({class})]`"),
                    );
                }
            }
        }
        said
    }

    fn entry(&mut self, words: &[&'static str], input: ParseStream<'_>) -> syn::Result<()> {
        let Some(word) = grammar::word(input) else {
            let text = input.fork().parse::<LitStr>().map(|text| text.value()).unwrap_or_default();
            let class = class_of(&text).unwrap_or(PERMANENT);
            return Err(
                input.error(format!("expected a class\nhelp: write `#[classify({class})]`"))
            );
        };
        let class = match &*word.to_string() {
            PERMANENT => Class::Permanent,
            TRANSIENT => Class::Transient,
            TRANSPARENT => Class::Transparent,
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
                let help = match other_word(unknown, input) {
                    Some(class) => format!("help: write `#[classify({class})]`"),
                    None => errors::suggestion(unknown, words).1,
                };
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
    fn class_of_the_field() {
        let expanded = derive(quote! {
            #[classify(transparent)]
            enum ReserveError<T> {
                Price(#[from] PriceError),
                Stock { #[source] inner: T, at: u64 },
                #[classify(permanent)]
                Closed,
            }
        });
        expect![[r#"
            const _: () = {
                #[automatically_derived]
                impl<T> ::outbox::__private::Classify for ReserveError<T>
                where
                    T: ::outbox::__private::Classify,
                {
                    fn class(&self) -> ::outbox::__private::ErrorClass {
                        match self {
                            Self::Price { 0: __outbox_inner, .. } => {
                                ::outbox::__private::Classify::class(__outbox_inner)
                            }
                            Self::Stock { inner: __outbox_inner, .. } => {
                                ::outbox::__private::Classify::class(__outbox_inner)
                            }
                            Self::Closed { .. } => ::outbox::__private::ErrorClass::Permanent,
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
                #[classify(transparent)]
                C { #[source] d: u8, e: T },
            }
        };
        for item in prefixes(&item).into_iter().chain(broken(&item)) {
            derive(item);
        }
    }
}
