//! `#[derive(DomainEvent)]`: parse ([`attr`]) → [`model`], valid by construction → [`expand`].

mod attr;
mod declared;
mod expand;
mod header;
mod level;
mod locked;
mod marked;
mod model;
mod serde;
#[cfg(test)]
mod tests;
mod topic;
mod transparent;
mod wire;
mod words;

use proc_macro2::TokenStream;
use syn::DeriveInput;

use crate::dependency;
use crate::errors::{self, Errors};
use crate::symbol::EVENT;

/// Whether the events of the crate that is compiled are compared with a lock.
#[derive(Clone, Copy)]
pub(crate) enum Contracts {
    Off,
    On {
        /// Whether the derive writes a test that compares them.
        tests: bool,
    },
}

impl Contracts {
    /// Those of the crate that is compiled. The events of its integration tests are no events of it:
    /// cargo says by a variable that it compiles these.
    pub(crate) fn here() -> Self {
        if cfg!(feature = "schema") {
            Self::On { tests: std::env::var_os("CARGO_TARGET_TMPDIR").is_none() }
        } else {
            Self::Off
        }
    }
}

pub(crate) fn derive(input: TokenStream, contracts: Contracts) -> TokenStream {
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
        return transparent(errors, &item, contracts);
    }
    let event = model::Event::new(&errors, &item);
    let mut seen = TokenStream::new();
    if let Some(event) = &event {
        declared::check(&errors, event);
        if let Contracts::On { .. } = contracts {
            seen = locked::check(&errors, event);
        }
    }
    let found = errors.into_vec();
    match event {
        Some(event) if found.is_empty() => {
            let mut output = expand::event(&event);
            if let Contracts::On { tests } = contracts {
                output.extend(expand::contract::event(&event, tests));
            }
            output.extend(seen);
            output
        }
        _ => {
            let mut output = errors::to_tokens(&found);
            if !item.shapes.is_empty() {
                output.extend(expand::stub(&item));
            }
            output
        }
    }
}

fn transparent(errors: Errors, item: &attr::Item<'_>, contracts: Contracts) -> TokenStream {
    let event = transparent::Transparent::new(&errors, item);
    let found = errors.into_vec();
    match event {
        Some(event) if found.is_empty() => {
            let mut output = expand::transparent::event(&event);
            if let Contracts::On { .. } = contracts {
                output.extend(expand::contract::transparent(&event));
            }
            output
        }
        _ => {
            let mut output = errors::to_tokens(&found);
            output.extend(expand::stub(item));
            output
        }
    }
}
