//! wdsr-eval
#![forbid(unsafe_code)]
