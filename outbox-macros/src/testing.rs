//! What the tests of all macros share.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};

use crate::tokens::{LOCAL, LOCAL_TYPE};

/// The code as `cargo fmt` would write it.
pub(crate) fn pretty(tokens: TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(tokens).unwrap())
}

/// The tokens with the names of our variables as a user would write them.
pub(crate) fn named_shortly(tokens: TokenStream) -> TokenStream {
    let shortly = |token| match token {
        TokenTree::Group(group) => {
            Group::new(group.delimiter(), named_shortly(group.stream())).into()
        }
        TokenTree::Ident(ident) => {
            let word = ident.to_string();
            match word.strip_prefix(LOCAL).or_else(|| word.strip_prefix(LOCAL_TYPE)) {
                Some(name) => Ident::new(name, ident.span()).into(),
                None => ident.into(),
            }
        }
        other => other,
    };
    tokens.into_iter().map(shortly).collect()
}

/// The expansion as the documentation shows it: Markdown, without the absolute paths and the
/// prefixes that protect it from names of the user.
pub(crate) fn documented(tokens: TokenStream) -> String {
    let mut code = pretty(named_shortly(tokens));
    for path in [
        "::outbox::__private::",
        "::core::option::Option::",
        "::core::result::Result::",
        "::core::option::",
        "::core::result::",
        "::core::primitive::",
        "::core::time::",
        "::core::clone::",
        "::core::marker::",
        "::core::any::",
        "::core::",
        "::std::boxed::",
        "::std::vec::",
    ] {
        code = code.replace(path, "");
    }
    format!("```text\n{}```\n", prettyplease::unparse(&syn::parse_file(&code).unwrap()))
}

/// Every way to lose one token, or to have one too many.
pub(crate) fn broken(tokens: &TokenStream) -> Vec<TokenStream> {
    const INTRUDERS: [&str; 12] =
        ["x", "in", "=", ",", ";", "&", "<", "->", "'a", "\"\"", "1", "{}"];
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut broken = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let around = |middle: TokenStream| -> TokenStream {
            let before = tokens[..i].iter().cloned();
            before.chain(middle).chain(tokens[i + 1..].iter().cloned()).collect()
        };
        broken.push(around(TokenStream::new()));
        for intruder in INTRUDERS {
            let intruder: TokenStream = intruder.parse().unwrap();
            broken.push(around(intruder.clone()));
            broken.push(around(intruder.into_iter().chain([token.clone()]).collect()));
        }
        if let TokenTree::Group(group) = token {
            broken.extend(self::broken(&group.stream()).into_iter().map(|inner| {
                around(TokenTree::Group(Group::new(group.delimiter(), inner)).into())
            }));
        }
    }
    broken
}

/// Everything an editor sees while `tokens` is typed from left to right, with each open delimiter
/// closed at once.
pub(crate) fn prefixes(tokens: &TokenStream) -> Vec<TokenStream> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut prefixes = vec![TokenStream::new()];
    for (i, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            for inner in self::prefixes(&group.stream()) {
                let mut prefix: TokenStream = tokens[..i].iter().cloned().collect();
                prefix.extend([TokenTree::Group(Group::new(group.delimiter(), inner))]);
                prefixes.push(prefix);
            }
        } else {
            prefixes.push(tokens[..=i].iter().cloned().collect());
        }
    }
    prefixes
}

/// The tokens without the delimiters.
pub(crate) fn leaves(tokens: TokenStream) -> Vec<String> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Group(group) => leaves(group.stream()),
            leaf => vec![leaf.to_string()],
        })
        .collect()
}

/// Whether `output` has all tokens of `item`, in their order.
pub(crate) fn keeps(output: TokenStream, item: TokenStream) -> bool {
    let mut output = leaves(output).into_iter();
    leaves(item).into_iter().all(|token| output.any(|other| other == token))
}

#[test]
fn prefixes_are_those_an_editor_sees() {
    let seen: Vec<_> = prefixes(&quote::quote!(f(a b) c)).iter().map(ToString::to_string).collect();
    assert_eq!(seen, ["", "f", "f ()", "f (a)", "f (a b)", "f (a b) c"]);
}

#[test]
fn a_lost_token_is_noticed() {
    assert!(keeps(quote::quote!(a { x b c }), quote::quote!(a b c)));
    assert!(!keeps(quote::quote!(a { x c }), quote::quote!(a b c)));
}

#[test]
fn broken_streams_lose_and_gain_a_token_everywhere() {
    let seen: Vec<_> = broken(&quote::quote!(a(b))).iter().map(ToString::to_string).collect();
    for expected in ["(b)", "a", "a ()", "a (x)", "x a (b)", "a (in b)"] {
        assert!(seen.iter().any(|seen| seen == expected), "{expected} is not in {seen:?}");
    }
}
