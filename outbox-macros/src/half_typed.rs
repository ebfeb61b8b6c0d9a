//! What an editor needs while a function is typed. rust-analyzer expands a macro at each key, and
//! completes and explains what it finds in the expansion. So a function with half a body, or under
//! half an attribute, is expanded with all that was typed, and with the `tx` that it uses.

use proc_macro2::TokenStream;
use quote::quote;

use crate::testing::{keeps, leaves, prefixes};
use crate::{handler, transactional};

/// Bodies as they are typed: `tx.` without a method, a call without its end, an open block.
fn half_typed_bodies() -> Vec<TokenStream> {
    prefixes(&quote! {
        let placed = OrderPlaced { customer: order.customer.clone(), item };
        sqlx::query("insert").bind(&placed.customer).execute(&mut *tx).await?;
        for line in lines { tx.emit(LineAdded { line, ..Default::default() })?; }
        let later = async || { return tx.emit(placed) };
        match state { State::New if x > 1 => tx.emit(a)?, _ => drop(tx.savepoint()) }
        Ok(())
    })
}

fn count(tokens: &TokenStream, word: &str) -> usize {
    leaves(tokens.clone()).iter().filter(|leaf| *leaf == word).count()
}

#[test]
fn half_a_body_is_expanded_whole_with_one_tx() {
    for args in [quote!(tx in self.outbox), quote!(tx in self.outbox, retry = 3, name = "x")] {
        for body in half_typed_bodies() {
            let item = quote!(pub async fn f(&self, order: Order) -> Result<(), Error> { #body });
            let output = transactional::attribute(args.clone(), item);
            assert!(keeps(output.clone(), body.clone()), "lost tokens of: {body}");
            assert_eq!(count(&output, "tx"), count(&body, "tx") + 1, "one is the body's: {body}");
            assert_eq!(count(&output, "compile_error"), 0, "half a body is no mistake: {body}");
        }
    }
}

#[test]
fn half_a_handler_is_expanded_whole_with_its_own_tx() {
    for body in half_typed_bodies() {
        let item = quote! {
            async fn f(tx: &mut OutboxTx<'_, Db>, order: Order, context: &EventContext) -> Result<(), E> {
                #body
            }
        };
        let output = handler::attribute(quote!(group = "g"), item);
        assert!(keeps(output.clone(), body.clone()), "lost tokens of: {body}");
        assert!(count(&output, "tx") > count(&body, "tx"), "the body has its parameter: {body}");
        assert_eq!(count(&output, "compile_error"), 0, "half a body is no mistake: {body}");
    }
}

#[test]
fn a_body_under_half_an_attribute_is_kept() {
    let body = quote!(tx.emit(placed)?; Ok(()));
    for args in prefixes(&quote!(tx in self.outbox.get(1), isolation = "serializable", retry = 3)) {
        let item = quote!(async fn f(&self, placed: Placed) -> Result<(), Error> { #body });
        let output = transactional::attribute(args.clone(), item);
        assert!(keeps(output.clone(), body.clone()), "lost under: {args}");
        assert_eq!(count(&output, "tx"), count(&body, "tx") + 1, "it has its `tx` under: {args}");
    }
    for args in
        prefixes(&quote!(group = "g", attempts = 3, retry_topics = ["1s"], later_events = "wait"))
    {
        let item = quote!(async fn f(tx: &mut OutboxTx<'_, Db>, placed: Placed) -> Result<(), E> { #body });
        assert!(keeps(handler::attribute(args.clone(), item), body.clone()), "lost under: {args}");
    }
}
