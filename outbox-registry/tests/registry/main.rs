//! The codecs with a registry, or what stands in for one.

mod codecs;
mod events;
mod failures;
mod java;
mod reading;
mod stand_in;
