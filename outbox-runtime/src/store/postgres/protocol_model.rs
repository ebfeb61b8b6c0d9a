//! Small models of the protocols, searched for an interleaving that breaks a promise.
//!
//! For each step of a protocol there is a flaw that leaves it out, and the search must find a state
//! that breaks a promise. A model whose flaws are not found proves nothing.

mod exactly_once;
mod lanes;
mod search;
