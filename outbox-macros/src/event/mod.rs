//! `#[derive(DomainEvent)]`: parse ([`attr`]) → [`model`], valid by construction → [`expand`].

mod attr;
mod declared;
mod expand;
mod header;
mod level;
mod marked;
mod model;
mod serde;
#[cfg(test)]
mod tests;
mod topic;
mod transparent;
mod words;

use proc_macro2::TokenStream;
use syn::DeriveInput;

use crate::dependency;
use crate::errors::{self, Errors};
use crate::symbol::EVENT;

pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        // Not an item. The compiler has reported that already, and there is no type to implement
        // anything for.
        Err(error) => return error.to_compile_error(),
    };
    let errors = Errors::new();
    let item = attr::Item::parse(&errors, &input);
    dependency::check(&errors, item.attrs.krate.get(), EVENT);
    if item.attrs.transparent.key().is_some() {
        return transparent(errors, &item);
    }
    let event = model::Event::new(&errors, &item);
    if let Some(event) = &event {
        declared::check(&errors, event);
    }
    let found = errors.into_vec();
    match event {
        Some(event) if found.is_empty() => expand::event(&event),
        _ => {
            let mut output = errors::to_tokens(&found);
            if !item.shapes.is_empty() {
                output.extend(expand::stub(&item));
            }
            output
        }
    }
}

fn transparent(errors: Errors, item: &attr::Item<'_>) -> TokenStream {
    let event = transparent::Transparent::new(&errors, item);
    let found = errors.into_vec();
    match event {
        Some(event) if found.is_empty() => expand::transparent::event(&event),
        _ => {
            let mut output = errors::to_tokens(&found);
            output.extend(expand::stub(item));
            output
        }
    }
}
