//! What holds for every kernel on every path: bounds of memory, special values, random shapes, thread counts.

#![allow(clippy::unwrap_used)]

#[cfg(unix)]
mod guard;
mod inputs;
mod random;
mod specials;
mod threads;
