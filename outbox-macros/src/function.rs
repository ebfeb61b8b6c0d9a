//! The annotated function: its signature parsed, its body left as tokens.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Ident, Signature, Token, Type, Visibility};

pub(crate) struct Function {
    /// Attributes, visibility and signature, as they were.
    head: TokenStream,
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// `None` for the declaration in a trait.
    pub(crate) body: Option<Group>,
    /// The `;` of a declaration.
    tail: Option<TokenTree>,
}

impl Function {
    // Input:  #[doc = "…"] pub async fn f(&self) -> Ret { BODY }
    // Output: Function {
    //             head: `#[doc = "…"] pub async fn f(&self) -> Ret`, attrs, sig, body: `{ BODY }`
    //         }
    //
    // `refusal` is the error for an item that is not a function: it says what the attribute is for.
    pub(crate) fn parse(
        item: TokenStream,
        refusal: impl Fn(&Ident) -> String,
    ) -> syn::Result<Self> {
        let mut head: Vec<TokenTree> = item.into_iter().collect();
        let body = head.pop_if(|last| braces(last).is_some()).as_ref().and_then(braces);
        let tail = match body {
            None => head
                .pop_if(|last| matches!(last, TokenTree::Punct(punct) if punct.as_char() == ';')),
            Some(_) => None,
        };
        let head: TokenStream = head.into_iter().collect();
        let parse_head = |input: ParseStream<'_>| parse_head(input, &refusal);
        let (attrs, vis, sig) = parse_head.parse2(head.clone())?;
        Ok(Self { head, attrs, vis, sig, body, tail })
    }

    /// The item as it was, with `body` for its body.
    pub(crate) fn with_body(&self, body: Option<TokenTree>) -> TokenStream {
        let mut tokens = self.head.clone();
        tokens.extend(body);
        tokens.extend(self.tail.clone());
        tokens
    }

    /// The item with the `async` that the user forgot.
    pub(crate) fn with_async_body(&self, body: TokenTree) -> TokenStream {
        let mut forgotten = true;
        let mut tokens = TokenStream::new();
        for token in self.head.clone() {
            let begins = matches!(&token, TokenTree::Ident(word) if word == "fn" || word == "unsafe" || word == "extern");
            if begins && forgotten {
                forgotten = false;
                tokens.extend([TokenTree::Ident(Ident::new("async", token.span()))]);
            }
            tokens.extend([token]);
        }
        tokens.extend([body]);
        tokens
    }
}

fn parse_head(
    input: ParseStream<'_>,
    refusal: &impl Fn(&Ident) -> String,
) -> syn::Result<(Vec<Attribute>, Visibility, Signature)> {
    let attrs = input.call(Attribute::parse_outer)?;
    let vis = input.parse()?;
    if let Some(other) = other_item(input) {
        return Err(syn::Error::new(other.span(), refusal(&other)));
    }
    let sig = input.parse()?;
    if !input.is_empty() {
        return Err(input.error("unexpected token after the function's signature"));
    }
    Ok((attrs, vis, sig))
}

/// The keyword of an item which is not a function.
fn other_item(input: ParseStream<'_>) -> Option<Ident> {
    const OTHER: [&str; 11] = [
        "struct",
        "enum",
        "union",
        "impl",
        "trait",
        "mod",
        "const",
        "static",
        "type",
        "use",
        "macro_rules",
    ];
    let ahead = input.fork();
    ahead.parse::<Option<Token![unsafe]>>().ok()?;
    let keyword = ahead.call(Ident::parse_any).ok()?;
    let before_fn = keyword == "const"
        && (ahead.peek(Token![fn]) || ahead.peek(Token![async]) || ahead.peek(Token![unsafe]));
    (OTHER.iter().any(|other| keyword == other) && !before_fn).then_some(keyword)
}

/// The braces, or those in the invisible group which a `macro_rules!` puts around a `$body:block`.
fn braces(token: &TokenTree) -> Option<Group> {
    let TokenTree::Group(group) = token else { return None };
    match group.delimiter() {
        Delimiter::Brace => Some(group.clone()),
        Delimiter::None => {
            let mut inner = group.stream().into_iter();
            match (inner.next(), inner.next()) {
                (Some(only), None) => braces(&only),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The type inside of parentheses and of invisible groups.
pub(crate) fn peeled(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return ty,
        };
    }
}

/// Whether it is a `&mut …`.
pub(crate) fn is_exclusive(ty: &Type) -> bool {
    matches!(peeled(ty), Type::Reference(reference) if reference.mutability.is_some())
}
