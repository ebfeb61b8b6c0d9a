//! How the body of a function that returns a future ends: in the block that becomes the
//! transaction.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// `before async move { … } after`, or `before (ENDING) after`.
pub(super) struct Ending {
    before: TokenStream,
    core: Core,
    after: TokenStream,
}

enum Core {
    Block(Group),
    /// Of a call of `Box::pin`.
    Call(Group, Box<Ending>),
}

impl Ending {
    /// The block.
    pub(super) fn block(&self) -> &Group {
        match &self.core {
            Core::Block(block) => block,
            Core::Call(_, inner) => inner.block(),
        }
    }

    /// The same, with other tokens in the block.
    pub(super) fn with(&self, statements: TokenStream) -> TokenStream {
        let (like, inner) = match &self.core {
            Core::Block(block) => (block, statements),
            Core::Call(call, inner) => (call, inner.with(statements)),
        };
        let mut group = Group::new(like.delimiter(), inner);
        group.set_span(like.span());
        let mut tokens = self.before.clone();
        tokens.extend([TokenTree::Group(group)]);
        tokens.extend(self.after.clone());
        tokens
    }
}

/// Methods that leave what a future gives as it is.
const ADAPTERS: [&str; 4] = ["boxed", "boxed_local", "instrument", "in_current_span"];

// Input:  BEFORE Box::pin(async move { BLOCK })
// Output: Ending {
//             before: `BEFORE Box::pin`,
//             core: `( Ending { before: `async move`, core: `{ BLOCK }` } )`,
//         }
pub(super) fn ending(tokens: TokenStream) -> Option<Ending> {
    let mut before: Vec<TokenTree> = tokens.into_iter().collect();
    let mut after = Vec::new();
    if before.last().is_some_and(|token| is_punct(token, ',')) {
        after.extend(before.pop());
    }
    while let [.., dot, method, TokenTree::Group(_)] = &*before
        && is_punct(dot, '.')
        && ADAPTERS.iter().any(|adapter| is_word(method, adapter))
    {
        after.splice(0..0, before.split_off(before.len() - 3));
    }
    let TokenTree::Group(last) = before.pop()? else { return None };
    let core = match last.delimiter() {
        Delimiter::Brace => {
            let is_async = match &*before {
                [.., a, b] if is_word(b, "move") => is_word(a, "async"),
                [.., b] => is_word(b, "async"),
                [] => false,
            };
            is_async.then_some(Core::Block(last))?
        }
        Delimiter::Parenthesis => {
            before.last().filter(|token| is_word(token, "pin"))?;
            let inner = ending(last.stream())?;
            Core::Call(last, Box::new(inner))
        }
        _ => return None,
    };
    Some(Ending { before: before.into_iter().collect(), core, after: after.into_iter().collect() })
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_punct(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(found) if found.as_char() == punct)
}
