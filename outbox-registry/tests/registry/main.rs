//! The codecs with a registry, or what stands in for one.

mod codecs;
mod events;
mod failures;
mod headers;
mod java;
mod reading;
#[allow(dead_code)] // the tests of the command have it as well, and use other parts
mod stand_in;
