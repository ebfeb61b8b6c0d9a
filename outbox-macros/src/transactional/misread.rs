//! The answers to arguments that are none of ours: how they are to be written.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{ParseBuffer, ParseStream};
use syn::{Expr, ExprLit, Lit, LitStr, Token};

use super::args::{Args, EXAMPLE, OPTIONS};
use crate::errors;
use crate::grammar;
use crate::symbol::RETRY;
use crate::tokens::text;

/// An entry that is neither `tx in EXPR` nor an option.
pub(super) fn entry(args: &mut Args, input: ParseStream<'_>) -> syn::Error {
    if let Ok(mutable) = input.parse::<Token![mut]>() {
        args.tx = input.fork().parse().ok();
        return syn::Error::new(
            mutable.span,
            format!(
                "the body gets a `&mut` to the transaction, which needs no `mut`\nhelp: write `{}`",
                text(rest_of_entry(input))
            ),
        );
    }
    if let Ok(literal) = input.parse::<LitStr>() {
        return quoted(&literal);
    }
    option(args, input).unwrap_or_else(|| expression(args, input))
}

// Input: "tx in self.outbox"
fn quoted(literal: &LitStr) -> syn::Error {
    let words = literal.value();
    let help = match words.split_once(" in ") {
        Some(_) => format!("#[transactional_outbox({words})]"),
        None if syn::parse_str::<Expr>(&words).is_ok() => {
            format!("#[transactional_outbox(tx in {words})]")
        }
        None => EXAMPLE.to_owned(),
    };
    syn::Error::new(literal.span(), format!("`tx in EXPR` is code, not text\nhelp: write `{help}`"))
}

/// What the user gave to an option.
enum Given {
    Nothing,
    Value(Expr),
}

/// An option that another library has, or that has another name here. `None`: it is an expression.
fn option(args: &mut Args, input: ParseStream<'_>) -> Option<syn::Error> {
    let ahead = input.fork();
    let key = grammar::word(&ahead)?;
    let has_value = ahead.peek(Token![=]) && !ahead.peek(Token![==])
        || ahead.peek(Token![:]) && !ahead.peek(Token![::]);
    let given = if has_value {
        let _: TokenTree = ahead.parse().ok()?;
        ahead.parse().map_or(Given::Nothing, Given::Value)
    } else if ahead.is_empty() || ahead.peek(Token![,]) || ahead.peek(syn::token::Paren) {
        Given::Nothing
    } else {
        return None;
    };
    let word = key.to_string();
    let help = match &given {
        Given::Value(value) => place(args, &key, value).or_else(|| elsewhere(&word, Some(value))),
        Given::Nothing => elsewhere(&word, None),
    };
    let help = match help {
        Some(help) => format!("help: {help}"),
        None if has_value => unknown(args, &key, &given),
        None => return None,
    };
    // The tokens of the entry are skipped by the list.
    Some(syn::Error::new(key.span(), format!("unknown option `{word}`\n{help}")))
}

// Input: tx = self.outbox
fn place(args: &mut Args, key: &Ident, value: &Expr) -> Option<String> {
    if args.tx.is_some() {
        return None;
    }
    let tx = match &*key.to_string() {
        "tx" | "txn" | "trx" | "transaction" => {
            args.tx = Some(key.clone());
            key.to_string()
        }
        "outbox"
        | "pool"
        | "db"
        | "database"
        | "source"
        | "conn"
        | "connection"
        | "datasource"
        | "data_source"
        | "on"
        | "executor"
        | "transaction_manager"
        | "manager" => "tx".to_owned(),
        _ => return None,
    };
    let value = match value {
        Expr::Lit(ExprLit { lit: Lit::Str(literal), .. }) => literal.value(),
        value => text(value.to_token_stream()),
    };
    Some(format!("write `{tx} in {value}`"))
}

fn unknown(args: &mut Args, key: &Ident, given: &Given) -> String {
    let (meant, mut help) = errors::suggestion(&key.to_string(), &OPTIONS);
    if let Given::Value(value) = given
        && meant.is_none()
        && args.tx.is_none()
    {
        help.push_str(&format!(
            "\n      if it is the transaction, write `{key} in {}`",
            text(value.to_token_stream())
        ));
        args.tx = Some(key.clone());
    }
    help
}

/// Help for an option of another library.
fn elsewhere(word: &str, value: Option<&Expr>) -> Option<String> {
    let number = match value {
        Some(Expr::Lit(ExprLit { lit: Lit::Int(number), .. })) => number.base10_parse::<u32>().ok(),
        _ => None,
    };
    let help = match word {
        "retries" | "max_retries" | "retry_count" | "retry_on_conflict" | "maxRetries" => {
            return Some(format!("write `{RETRY} = {}`", number.unwrap_or(3)));
        }
        "attempts" | "max_attempts" | "maxAttempts" | "tries" => {
            let further = number.map_or(2, |attempts| attempts.saturating_sub(1).max(1));
            return Some(format!(
                "write `{RETRY} = {further}`, which does not count the first attempt"
            ));
        }
        "backoff" | "delay" | "pause" | "retry_delay" => {
            "the pauses of `retry = 3` begin at 5 ms and double up to 1 s: leave this out"
        }
        "isolation_level" | "isolationLevel" | "level" | "iso" | "serializable" => {
            "write `isolation = \"serializable\"`"
        }
        "repeatable_read" => "write `isolation = \"repeatable read\"`",
        "read_committed" => "write `isolation = \"read committed\"`",
        "read_only" | "readOnly" | "readonly" | "read_write" => {
            "a transaction that emits writes, so it cannot be read-only: leave this out,\n      \
             or remove the attribute if the function emits nothing"
        }
        "propagation" | "required" | "requires_new" | "nested" | "savepoint" | "mandatory" => {
            "what follows `in` decides that: `tx in self.outbox` begins a transaction, and `tx in tx` with an outer\n      \
             `tx: &mut OutboxTx<'_, DB>` a savepoint. A function without the attribute joins the transaction it is given"
        }
        "rollback_for" | "rollbackFor" | "no_rollback_for" | "noRollbackFor" | "rollback_on"
        | "rollback" => "every `Err` rolls back, and every `Ok` commits: leave this out",
        "timeout" | "timeout_seconds" | "statement_timeout" | "lock_timeout" | "deadline" => {
            "put `tokio::time::timeout` around the call: dropping its future rolls back"
        }
        "label" | "transaction_name" | "application_name" | "value" => {
            "write `name = \"create_order\"`"
        }
        "topic" | "event" | "events" | "key" => {
            "an event has it: `#[event(topic = \"order-events\")]`"
        }
        _ => return None,
    };
    Some(help.to_owned())
}

/// An expression that is not joined to a name by `in`.
fn expression(args: &mut Args, input: ParseStream<'_>) -> syn::Error {
    let begin = input.fork();
    let Ok(expression) = input.parse::<Expr>() else {
        return begin.error(format!("expected `tx in EXPR`\nhelp: write `{EXAMPLE}`"));
    };
    let tokens = expression.to_token_stream();
    let words = text(tokens.clone());
    if let Some(error) = comma(args, &expression, input) {
        return error;
    }
    let is_tx = matches!(&*words, "tx" | "txn" | "trx" | "transaction" | "t");
    let help = if args.tx.is_some() {
        format!("remove it; the options are `{}`", OPTIONS.join("`, `"))
    } else if is_tx {
        args.tx = syn::parse2(tokens.clone()).ok();
        format!("name its outbox as well: `#[transactional_outbox({words} in self.outbox)]`")
    } else {
        format!("name the transaction as well: `#[transactional_outbox(tx in {words})]`")
    };
    syn::Error::new_spanned(tokens, format!("expected `tx in EXPR`\nhelp: {help}"))
}

// Input: tx, self.outbox
fn comma(args: &mut Args, tx: &Expr, input: ParseStream<'_>) -> Option<syn::Error> {
    let ahead = input.fork();
    let comma = ahead.parse::<Token![,]>().ok()?;
    let word = ahead.fork();
    let is_entry = grammar::word(&word).is_some_and(|key| {
        word.peek(Token![=]) || word.peek(Token![in]) || elsewhere(&key.to_string(), None).is_some()
    });
    if is_entry || args.tx.is_some() {
        return None;
    }
    let name: Ident = syn::parse2(tx.to_token_stream()).ok()?;
    let outbox: Expr = ahead.parse().ok()?;
    input.parse::<Token![,]>().and_then(|_| input.parse::<Expr>()).ok()?;
    let help = format!("help: write `{name} in {}`", text(outbox.to_token_stream()));
    args.tx = Some(name);
    Some(syn::Error::new(
        comma.span,
        format!("the transaction and its outbox are joined by `in`\n{help}"),
    ))
}

// Input: tx in "self.outbox"
pub(super) fn outbox_as_text(tx: &Ident, literal: &ExprLit) -> syn::Error {
    let help = match &literal.lit {
        Lit::Str(words) if syn::parse_str::<Expr>(&words.value()).is_ok() => {
            format!("write `{tx} in {}`", words.value())
        }
        _ => format!("write `{tx} in self.outbox`"),
    };
    syn::Error::new_spanned(literal, format!("the outbox is an expression, not text\nhelp: {help}"))
}

/// No expression after `tx in`, for the reason `error`.
pub(super) fn outbox(tx: &Ident, begin: &ParseBuffer<'_>, error: &syn::Error) -> syn::Error {
    if let Ok(mutable) = begin.parse::<Token![mut]>() {
        let words = text(rest_of_entry(begin));
        return syn::Error::new(
            mutable.span,
            format!(
                "an outbox is not borrowed mutably\nhelp: write `{tx} in {words}`, or `{tx} in &mut *{words}` for a savepoint \
                 of a transaction"
            ),
        );
    }
    let tokens = rest_of_entry(begin);
    let last = tokens.clone().into_iter().last();
    match last {
        Some(TokenTree::Punct(dot)) if dot.as_char() == '.' => syn::Error::new(
            dot.span(),
            format!(
                "the name of a field is missing behind the `.`\nhelp: write `{tx} in {}outbox`",
                text(tokens)
            ),
        ),
        _ => syn::Error::new(error.span(), format!("{error}\nhelp: write `{EXAMPLE}`")),
    }
}

/// The tokens up to the next comma.
fn rest_of_entry(input: ParseStream<'_>) -> TokenStream {
    let mut tokens = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        match input.parse::<TokenTree>() {
            Ok(token) => tokens.extend([token]),
            Err(_) => break,
        }
    }
    tokens
}
