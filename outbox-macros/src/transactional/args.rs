//! The arguments: `tx in EXPR`, then options. What the options may be is decided in
//! [`options`](super::options), and what is none of these in [`misread`](super::misread).

use proc_macro2::{Span, TokenStream};
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Ident, LitInt, LitStr, Path, Token};

use super::misread;
use crate::errors::Errors;
use crate::grammar::{self, Once, value};
use crate::symbol::{CRATE, ISOLATION, NAME, RETRY};

pub(super) const OPTIONS: [&str; 4] = [ISOLATION, RETRY, NAME, CRATE];

pub(super) const EXAMPLE: &str = "#[transactional_outbox(tx in self.outbox)]";

#[derive(Default)]
pub(super) struct Args {
    /// The `tx` of `tx in EXPR`. It is kept if the rest is wrong, since the body uses it.
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
        let Some(key) = known(input) else { return Err(misread::entry(self, input)) };
        grammar::word(input);
        match &*key.to_string() {
            _ if input.peek(Token![in]) => self.transaction(key, input),
            ISOLATION => {
                self.isolation.set(&key, value(&key, input, "isolation = \"serializable\""))
            }
            RETRY => self.retry.set(&key, value(&key, input, "retry = 3")),
            NAME => self.name.set(&key, value(&key, input, "name = \"create_order\"")),
            _ => self.krate.set(&key, value(&key, input, "crate = my_crate::outbox")),
        }
    }

    fn transaction(&mut self, tx: Ident, input: ParseStream<'_>) -> syn::Result<()> {
        input.parse::<Token![in]>()?;
        if self.tx.is_some() {
            return Err(syn::Error::new(
                tx.span(),
                "a method has one transaction\nhelp: remove this one, or begin it in a method of its own",
            ));
        }
        if !is_name(&tx) {
            return Err(syn::Error::new(
                tx.span(),
                format!("`{tx}` is not a name that the body can use\nhelp: write `{EXAMPLE}`"),
            ));
        }
        self.tx = Some(tx.clone());
        if input.is_empty() || input.peek(Token![,]) {
            return Err(syn::Error::new(
                tx.span(),
                format!("the outbox is missing after `in`\nhelp: write `{EXAMPLE}`"),
            ));
        }
        let begin = input.fork();
        match input.parse() {
            Ok(Expr::Lit(text)) => Err(misread::outbox_as_text(&tx, &text)),
            Ok(source) => {
                self.source = Some(source);
                Ok(())
            }
            Err(error) => Err(misread::outbox(&tx, &begin, &error)),
        }
    }
}

/// The word, if an option or the transaction begins here.
fn known(input: ParseStream<'_>) -> Option<Ident> {
    let ahead = input.fork();
    let word = grammar::word(&ahead)?;
    (ahead.peek(Token![in]) || OPTIONS.iter().any(|option| word == option)).then_some(word)
}

/// Whether it can be the name of a variable. The name alone is kept, since the body uses it.
fn is_name(word: &Ident) -> bool {
    use syn::ext::IdentExt;
    *word != "_" && word.unraw() == *word && syn::parse_str::<Ident>(&word.to_string()).is_ok()
}
