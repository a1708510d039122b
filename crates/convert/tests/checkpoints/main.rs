//! Checkpoints of every layout and wrapper, and files that must be refused.

mod golden;
mod keras;
mod layouts;
mod malice;
mod writer;
