//! The tokens of an event's implementation.

use proc_macro2::{Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::Generics;

use super::attr::Item;
use super::model::{Event, Kind, Part, Topic};
use crate::tokens::{ends, local, mentions, ours, private, private_at, respanned};

// Input:
//     #[derive(DomainEvent)]
//     #[event(topic = "order-events")]
//     struct OrderCreated {
//         #[event(key)]
//         customer_id: Uuid,
//         #[event(header)]
//         tenant: String,
//     }
//
// Output:
//     const _: () = {
//         impl DomainEvent for OrderCreated {
//             type Codec = Json;
//             const DESCRIPTORS: &'static [EventDescriptor] = &[EventDescriptor::new(
//                 "order-events", "OrderCreated", 1, Self::CONTENT_TYPE, &["customer_id"], &["tenant"],
//             )];
//             fn descriptor(&self) -> &'static EventDescriptor { &Self::DESCRIPTORS[0] }
//             fn key(&self) -> Option<Vec<u8>> { Some(event_key(&[&self.customer_id])) }
//             fn headers(&self, headers: &mut Headers) { headers.insert("tenant", &self.tenant); }
//         }
//     };
pub(super) fn event(event: &Event<'_>) -> TokenStream {
    let private = private(event.krate);
    let ident = event.ident;
    let (impl_generics, ty_generics, _) = event.generics.split_for_impl();
    let where_clause = where_clause(event, &private);
    let codec = codec(event.codec, event.krate, ident);
    let descriptors = event.kinds.iter().map(|kind| descriptor(event, kind, &private));
    let methods = [
        Some(choose_descriptor(event, &private)),
        Some(key(event, &private)),
        headers(event, &private),
        id(event, &private),
        occurred_at(event, &private),
        older_version(event, &private),
    ];
    let methods: TokenStream = methods.into_iter().flatten().collect();
    let evaluated = evaluated(event, &private);
    let follows = follows(event, &private);
    let declarations = event.kinds.iter().filter_map(declaration);
    quote! {
        #(#declarations)*
        const _: () = {
            #[automatically_derived]
            impl #impl_generics #private::DomainEvent for #ident #ty_generics #where_clause {
                type Codec = #codec;
                const DESCRIPTORS: &'static [#private::EventDescriptor] = &[#(#descriptors),*];
                #methods
            }
            #evaluated
            #follows
        };
    }
}

// Two types of one crate that are the same event define this macro twice, which the compiler
// refuses. No other name that a derive can define is visible in the whole crate. So the macro's
// name is the message.
//
// Output:
//     macro_rules! two_events_are__order_created__version_1__of_topic__order_events__… { () => {}; }
fn declaration(kind: &Kind<'_>) -> Option<TokenStream> {
    let Topic::Literal(topic) = kind.topic else { return None };
    if kind.duplicate {
        return None;
    }
    let (name, version, topic) = (&kind.name, kind.version, topic.value());
    let word = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    // Different names can have the same words.
    let hash = fnv1a([name, "\0", &topic].map(str::as_bytes).concat());
    let declared = format!(
        "two_events_are__{}__version_{version}__of_topic__{}__rename_one_or_mark_it_duplicate__{hash:08x}",
        word(name),
        word(&topic),
    );
    let at = ours(kind.named_at);
    let declared = Ident::new(&declared, at);
    Some(quote_spanned! {at=>
        #[allow(non_local_definitions)]
        #[doc(hidden)]
        #[macro_export]
        macro_rules! #declared {
            () => {};
        }
    })
}

fn fnv1a(bytes: Vec<u8>) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A replacement for the implementation when the attributes are wrong, so that not every `emit` of
/// this event is one more error.
pub(super) fn stub(item: &Item<'_>) -> TokenStream {
    if item.shapes.is_empty() {
        return TokenStream::new();
    }
    let krate = item.attrs.krate.get();
    let private = private(krate);
    let ident = &item.input.ident;
    let (impl_generics, ty_generics, _) = item.input.generics.split_for_impl();
    let codec = codec(item.attrs.codec.get(), krate, ident);
    let where_clause = predicates(&item.input.generics, &codec, &private, Vec::new());
    quote! {
        const _: () = {
            #[automatically_derived]
            impl #impl_generics #private::DomainEvent for #ident #ty_generics #where_clause {
                type Codec = #codec;
                const DESCRIPTORS: &'static [#private::EventDescriptor] = &[];
                fn descriptor(&self) -> &'static #private::EventDescriptor {
                    ::core::unreachable!()
                }
                fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
                    ::core::unreachable!()
                }
            }
        };
    }
}

/// Located at the type's name: that is where a missing `Serialize` is to be added.
fn codec(codec: Option<&syn::Path>, krate: Option<&syn::Path>, ident: &Ident) -> TokenStream {
    match codec {
        Some(path) => path.to_token_stream(),
        None => {
            let span = ours(ident.span());
            let private = private_at(krate, span);
            quote_spanned!(span=> #private::Json)
        }
    }
}

fn descriptor(event: &Event<'_>, kind: &Kind<'_>, private: &TokenStream) -> TokenStream {
    // If Kafka would refuse the topic, evaluating this call fails. The error is shown at the
    // `const` that was named.
    let (topic, new) = match kind.topic {
        Topic::Literal(literal) => {
            (literal.to_token_stream(), quote!(#private::EventDescriptor::new))
        }
        Topic::Const(path) => {
            let (begin, _) = ends(path);
            let private = private_at(event.krate, begin);
            (path.to_token_stream(), quote_spanned!(begin=> #private::EventDescriptor::new))
        }
    };
    let name = &kind.name;
    let version = Literal::u32_unsuffixed(kind.version);
    let key_fields = kind.keys.iter().map(Part::name);
    let header_names = kind.headers.iter().map(|header| &header.name);
    quote! {
        #new(#topic, #name, #version, Self::CONTENT_TYPE, &[#(#key_fields),*], &[#(#header_names),*])
    }
}

fn choose_descriptor(event: &Event<'_>, private: &TokenStream) -> TokenStream {
    let position = |i: usize| {
        let i = Literal::usize_unsuffixed(i);
        quote!(&Self::DESCRIPTORS[#i])
    };
    let variants = event.kinds.iter().enumerate().filter_map(|(i, kind)| {
        let variant = located(kind.variant?);
        let descriptor = position(i);
        Some(quote!(Self::#variant { .. } => #descriptor,))
    });
    let variants: Vec<_> = variants.collect();
    let body = if variants.is_empty() { position(0) } else { quote!(match self { #(#variants)* }) };
    quote! {
        fn descriptor(&self) -> &'static #private::EventDescriptor {
            #body
        }
    }
}

fn key(event: &Event<'_>, private: &TokenStream) -> TokenStream {
    let body = per_kind(
        event,
        |kind| kind.keys.iter().collect(),
        |_, keys| quote!(::core::option::Option::Some(#private::event_key(&[#(#keys),*]))),
        &quote!(::core::option::Option::None),
    );
    quote! {
        fn key(&self) -> ::core::option::Option<::std::vec::Vec<::core::primitive::u8>> {
            #body
        }
    }
}

fn headers(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    event.kinds.iter().any(|kind| !kind.headers.is_empty()).then(|| {
        let headers = local("headers");
        let body = per_kind(
            event,
            |kind| kind.headers.iter().map(|header| &header.part).collect(),
            |kind, values| {
                let names = kind.headers.iter().map(|header| &header.name);
                quote!({ #(#private::Headers::insert(#headers, #names, #values);)* })
            },
            &quote!({}),
        );
        let body = if event.kinds.iter().any(|kind| kind.variant.is_some()) {
            quote!({ #body })
        } else {
            body
        };
        quote!(fn headers(&self, #headers: &mut #private::Headers) #body)
    })
}

fn id(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let body = optional(event, |kind| kind.id.as_ref(), &quote!(#private::EventId::event_id))?;
    Some(quote! {
        fn id(&self) -> ::core::option::Option<#private::Uuid> {
            #body
        }
    })
}

fn occurred_at(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let body = optional(
        event,
        |kind| kind.occurred_at.as_ref(),
        &quote!(#private::EventTime::event_time),
    )?;
    Some(quote! {
        fn occurred_at(&self) -> ::core::option::Option<::std::time::SystemTime> {
            #body
        }
    })
}

fn older_version(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let from = event.upcast_from?;
    let (begin, _) = ends(from);
    let [version, payload] = ["version", "payload"].map(local);
    // Located at the type that is named: that is where `From` or `Deserialize` is missing.
    let private_there = private_at(event.krate, begin);
    let upcast = quote_spanned!(begin=> #private_there::upcast::<#from, Self>);
    Some(quote! {
        fn older_version(
            #version: ::core::primitive::u32,
            #payload: &[::core::primitive::u8],
        ) -> ::core::option::Option<::core::result::Result<Self, #private::CodecError>> {
            #upcast(#version, #payload)
        }
    })
}

/// A check that the named version is the one before this. It is left out for generic events, whose
/// version is not known here.
fn follows(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let from = event.upcast_from.filter(|_| event.generics.params.is_empty())?;
    let (begin, _) = ends(from);
    let ident = event.ident;
    let version = event.kinds.first()?.version;
    let message = format!(
        "`{ident}` is version {version} of its event: `upcast_from` takes the type of version {} of the same topic and name",
        version.saturating_sub(1)
    );
    Some(quote_spanned! {begin=>
        const _: () = ::core::assert!(
            #private::is_next_version(
                <#from as #private::DomainEvent>::DESCRIPTORS,
                <#ident as #private::DomainEvent>::DESCRIPTORS,
            ),
            #message
        );
    })
}

/// The body of a method that returns one field. `None` if no kind has that field: the method's
/// default is used then.
fn optional<'a>(
    event: &'a Event<'_>,
    part: impl Fn(&'a Kind<'a>) -> Option<&'a Part<'a>>,
    witness: &TokenStream,
) -> Option<TokenStream> {
    event.kinds.iter().any(|kind| part(kind).is_some()).then(|| {
        per_kind(
            event,
            |kind| part(kind).into_iter().collect(),
            |_, value| quote!(::core::option::Option::Some(#witness(#(#value),*))),
            &quote!(::core::option::Option::None),
        )
    })
}

// Input (struct):  the parts `a` and `b`
// Output:          some([&self.a, &self.b])
//
// Input (enum):    the parts `a` of `A`, and none of `B`
// Output:          match self {
//                      Self::A { a: field0, .. } => some([field0]),
//                      Self::B { .. } => none,
//                  }
fn per_kind<'a>(
    event: &'a Event<'_>,
    parts: impl Fn(&'a Kind<'a>) -> Vec<&'a Part<'a>>,
    some: impl Fn(&Kind<'_>, &[TokenStream]) -> TokenStream,
    none: &TokenStream,
) -> TokenStream {
    let mut arms = TokenStream::new();
    let mut without = Vec::new();
    for kind in &event.kinds {
        let parts = parts(kind);
        let Some(variant) = kind.variant else {
            let fields: Vec<_> = parts.iter().map(|part| field_of_self(part)).collect();
            return if fields.is_empty() { none.clone() } else { some(kind, &fields) };
        };
        let variant = located(variant);
        if parts.is_empty() {
            without.push(quote!(Self::#variant { .. }));
            continue;
        }
        let members = parts.iter().map(|part| member(part, ends(part.ty).0));
        let bindings: Vec<_> = (0..parts.len()).map(|i| local(&format!("field{i}"))).collect();
        // Located at the field's type, which is what an error is about.
        let uses: Vec<_> =
            parts.iter().zip(&bindings).map(|(part, binding)| at_type(part, binding)).collect();
        let body = some(kind, &uses);
        arms.extend(quote!(Self::#variant { #(#members: #bindings,)* .. } => #body,));
    }
    if !without.is_empty() {
        arms.extend(quote!(#(#without)|* => #none,));
    }
    quote!(match self { #arms })
}

/// `&self.field`, located at the field's type.
fn field_of_self(part: &Part<'_>) -> TokenStream {
    let (begin, end) = ends(part.ty);
    // The hygiene of the method's own `&self`.
    let (begin, end) = (begin.resolved_at(Span::call_site()), end.resolved_at(Span::call_site()));
    let member = member(part, end);
    quote_spanned!(begin=> &self.#member)
}

fn at_type(part: &Part<'_>, binding: &Ident) -> TokenStream {
    let mut binding = binding.clone();
    binding.set_span(ends(part.ty).0);
    binding.into_token_stream()
}

fn member(part: &Part<'_>, span: Span) -> TokenTree {
    match part.ident {
        Some(ident) => TokenTree::Ident(respanned(ident, span)),
        None => {
            let mut position = Literal::usize_unsuffixed(part.position);
            position.set_span(span);
            TokenTree::Literal(position)
        }
    }
}

/// The name with a span of ours: `#[deprecated]` on the user's field or variant is about the user's
/// own uses.
fn located(ident: &Ident) -> Ident {
    respanned(ident, ours(ident.span()))
}

/// The type's own where clause, and a bound for each type that depends on a type parameter. A type
/// without parameters gets no bounds: one that does not hold would be an error of its own, and the
/// code that needs it gives a better one.
fn where_clause(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let mut bounds = Vec::new();
    for kind in &event.kinds {
        let of = |part: &Part<'_>, bound: TokenStream| {
            let ty = part.ty;
            mentions_parameter(ty, event.generics).then(|| quote!(#ty: #bound))
        };
        bounds.extend(kind.keys.iter().filter_map(|part| of(part, quote!(#private::EventKey))));
        let headers = kind.headers.iter().map(|header| &header.part);
        bounds.extend(headers.filter_map(|part| of(part, quote!(#private::HeaderValue))));
        bounds.extend(kind.id.iter().filter_map(|part| of(part, quote!(#private::EventId))));
        bounds.extend(
            kind.occurred_at.iter().filter_map(|part| of(part, quote!(#private::EventTime))),
        );
    }
    if let Some(from) = event.upcast_from.filter(|from| mentions_parameter(from, event.generics)) {
        bounds.push(quote!(#from: #private::DomainEvent + ::core::convert::Into<Self>));
        bounds.push(quote!(<#from as #private::DomainEvent>::Codec: #private::Decode<#from>));
    }
    predicates(event.generics, &codec(event.codec, event.krate, event.ident), private, bounds)
}

fn predicates(
    generics: &Generics,
    codec: &TokenStream,
    private: &TokenStream,
    bounds: Vec<TokenStream>,
) -> Option<TokenStream> {
    let encode = generics.type_params().next().map(|_| quote!(#codec: #private::Encode<Self>));
    let given = generics
        .where_clause
        .iter()
        .flat_map(|clause| &clause.predicates)
        .map(ToTokens::to_token_stream);
    let all: Vec<_> = given.chain(encode).chain(bounds).collect();
    (!all.is_empty()).then(|| quote!(where #(#all),*))
}

fn mentions_parameter(ty: &impl ToTokens, generics: &Generics) -> bool {
    generics
        .type_params()
        .any(|parameter| mentions(ty.to_token_stream(), &parameter.ident.to_string()))
}

/// An associated constant is evaluated only when it is used: this use makes an illegal `topic =
/// some::CONST` an error although nothing emits the event yet. A generic event has nothing to
/// evaluate.
fn evaluated(event: &Event<'_>, private: &TokenStream) -> Option<TokenStream> {
    let has_const = event.kinds.iter().any(|kind| matches!(kind.topic, Topic::Const(_)));
    let generic = event.generics.type_params().next().is_some()
        || event.generics.const_params().next().is_some();
    (has_const && !generic).then(|| {
        let ident = event.ident;
        let lifetimes = event.generics.lifetimes().map(|_| syn::Lifetime::new("'static", Span::mixed_site()));
        quote! {
            const _: &[#private::EventDescriptor] = <#ident<#(#lifetimes),*> as #private::DomainEvent>::DESCRIPTORS;
        }
    })
}
