//! The arguments: `tx in EXPR`, then options.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Ident, Path, Token};

use crate::errors::{self, Errors};
use crate::symbol::CRATE;

const OPTIONS: [&str; 1] = [CRATE];

pub(super) const EXAMPLE: &str = "#[transactional_outbox(tx in self.outbox)]";

#[derive(Default)]
pub(super) struct Args {
    /// The `tx` of `tx in EXPR`.
    pub(super) tx: Option<Ident>,
    /// The `EXPR`.
    pub(super) source: Option<Expr>,
    pub(super) krate: Option<Path>,
}

impl Args {
    // Input:  tx in self.outbox, crate = my::outbox
    // Output: Args { tx: `tx`, source: `self.outbox`, krate: `my::outbox` }
    pub(super) fn parse(errors: &Errors, tokens: TokenStream) -> Self {
        let mut args = Self::default();
        let parsed = (|input: ParseStream<'_>| {
            args.parse_all(errors, input);
            Ok(())
        })
        .parse2(tokens);
        errors.ok(parsed);
        args
    }

    fn parse_all(&mut self, errors: &Errors, input: ParseStream<'_>) {
        let mut wrong = false;
        while !input.is_empty() {
            let entry = self.parse_entry(input).and_then(|()| comma(input));
            if let Err(error) = entry {
                wrong = true;
                errors.push(error);
                skip_entry(input);
            }
        }
        // With another mistake in place of it, that one is to be mended first.
        if self.tx.is_none() && !wrong {
            errors.at(
                Span::call_site(),
                format!("which transaction, and on which outbox?\nhelp: name both: `{EXAMPLE}`"),
            );
        }
    }

    fn parse_entry(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let begin = input.fork();
        let Ok(word) = input.call(Ident::parse_any) else {
            return Err(begin.error(format!("expected `tx in EXPR`\nhelp: write `{EXAMPLE}`")));
        };
        if input.peek(Token![in]) {
            input.parse::<Token![in]>()?;
            return self.parse_source(word, input);
        }
        if !input.peek(Token![=]) {
            return Err(if OPTIONS.contains(&&*word.to_string()) {
                syn::Error::new(word.span(), format!("`{word}` needs a value\nhelp: write `{word} = …`"))
            } else {
                syn::Error::new(
                    word.span(),
                    format!("expected `tx in EXPR`\nhelp: name the transaction and its outbox: `{EXAMPLE}`"),
                )
            });
        }
        match &*word.to_string() {
            CRATE if self.krate.is_some() => {
                Err(syn::Error::new(word.span(), "`crate` is given twice\nhelp: remove one of the two"))
            }
            CRATE => {
                input.parse::<Token![=]>()?;
                self.krate = Some(input.parse()?);
                Ok(())
            }
            unknown => Err(syn::Error::new(
                word.span(),
                format!("unknown option `{unknown}`\n{}", errors::suggestion(unknown, &OPTIONS).1),
            )),
        }
    }

    fn parse_source(&mut self, tx: Ident, input: ParseStream<'_>) -> syn::Result<()> {
        if self.tx.is_some() {
            return Err(syn::Error::new(
                tx.span(),
                "a method has one transaction\nhelp: remove this one, or begin it in a method of its own",
            ));
        }
        // The name alone is worth keeping: the body uses it.
        let tx_span = tx.span();
        if tx == "_" || tx.unraw() != tx || syn::parse2::<Ident>(TokenTree::Ident(tx.clone()).into()).is_err()
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

fn comma(input: ParseStream<'_>) -> syn::Result<()> {
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(input.error("expected `,` before the next option"));
    }
    input.parse::<Option<Token![,]>>().map(drop)
}

fn skip_entry(input: ParseStream<'_>) {
    while let Ok(token) = input.parse::<TokenTree>() {
        if matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ',') {
            break;
        }
    }
}
