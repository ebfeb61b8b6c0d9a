//! Each example is a program of its own, since some depend on what the root of a crate has.
//! `cargo xtask test --test it compiled` builds and runs them.
