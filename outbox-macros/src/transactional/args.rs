//! The arguments: `tx in EXPR`, then options. What the options may be is decided in
//! [`model`](super::model).

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Ident, LitInt, LitStr, Path, Token};

use crate::errors::{self, Errors};
use crate::grammar::{self, Once, value};
use crate::symbol::{CRATE, ISOLATION, NAME, RETRY};

const OPTIONS: [&str; 4] = [ISOLATION, RETRY, NAME, CRATE];

pub(super) const EXAMPLE: &str = "#[transactional_outbox(tx in self.outbox)]";

#[derive(Default)]
pub(super) struct Args {
    /// The `tx` of `tx in EXPR`.
    pub(super) tx: Option<Ident>,
    /// The `EXPR`.
    pub(super) source: Option<Expr>,
    pub(super) isolation: Once<LitStr>,
    pub(super) retry: Once<LitInt>,
    pub(super) name: Once<LitStr>,
    pub(super) krate: Once<Path>,
}

impl Args {
    // Input:  tx in self.outbox, retry = 3
    // Output: Args { tx: `tx`, source: `self.outbox`, retry: `3` }
    pub(super) fn parse(errors: &Errors, tokens: TokenStream) -> Self {
        let mut args = Self::default();
        let parsed = (|input: ParseStream<'_>| {
            grammar::list(errors, input, |input| args.entry(input));
            Ok(())
        })
        .parse2(tokens);
        errors.ok(parsed);
        // If there is another mistake in its place, that one is reported instead.
        if args.tx.is_none() && errors.is_empty() {
            errors.at(
                Span::call_site(),
                format!("which transaction, and on which outbox?\nhelp: name both: `{EXAMPLE}`"),
            );
        }
        args
    }

    fn entry(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let Some(key) = grammar::word(input) else {
            return Err(input.error(format!("expected `tx in EXPR`\nhelp: write `{EXAMPLE}`")));
        };
        if input.peek(Token![in]) {
            input.parse::<Token![in]>()?;
            return self.source(key, input);
        }
        match &*key.to_string() {
            ISOLATION => {
                self.isolation.set(&key, value(&key, input, "isolation = \"serializable\""))
            }
            RETRY => self.retry.set(&key, value(&key, input, "retry = 3")),
            NAME => self.name.set(&key, value(&key, input, "name = \"create_order\"")),
            CRATE => self.krate.set(&key, value(&key, input, "crate = my_crate::outbox")),
            unknown if input.peek(Token![=]) => {
                let (meant, mut help) = errors::suggestion(unknown, &OPTIONS);
                if meant.is_none() && self.tx.is_none() {
                    help.push_str(&format!(
                        "\n      if it is the transaction, write `{unknown} in …`"
                    ));
                }
                Err(syn::Error::new(key.span(), format!("unknown option `{unknown}`\n{help}")))
            }
            _ => Err(syn::Error::new(
                key.span(),
                format!(
                    "expected `tx in EXPR`\nhelp: name the transaction and its outbox: `{EXAMPLE}`"
                ),
            )),
        }
    }

    fn source(&mut self, tx: Ident, input: ParseStream<'_>) -> syn::Result<()> {
        if self.tx.is_some() {
            return Err(syn::Error::new(
                tx.span(),
                "a method has one transaction\nhelp: remove this one, or begin it in a method of its own",
            ));
        }
        // The name alone is kept, since the body uses it.
        let tx_span = tx.span();
        if tx == "_"
            || tx.unraw() != tx
            || syn::parse2::<Ident>(TokenTree::Ident(tx.clone()).into()).is_err()
        {
            return Err(syn::Error::new(
                tx_span,
                format!("`{tx}` is not a name that the body can use\nhelp: write `{EXAMPLE}`"),
            ));
        }
        self.tx = Some(tx);
        if input.is_empty() || input.peek(Token![,]) {
            return Err(syn::Error::new(
                tx_span,
                format!("the outbox is missing after `in`\nhelp: write `{EXAMPLE}`"),
            ));
        }
        self.source = Some(input.parse()?);
        Ok(())
    }
}
