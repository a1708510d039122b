//! Checkpoints of every layout and wrapper, and files that must be refused.

mod golden;
mod layouts;
mod malice;
mod writer;
