//! The `wdsr` command.
#![forbid(unsafe_code)]

fn main() {}
