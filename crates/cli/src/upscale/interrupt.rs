//! Ctrl-C: the image at work is finished, a second time drops it, a third time ends the program
//! at once. No half file stays under an image's name either way.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;

use crate::{exit, progress};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static DROPPING: AtomicBool = AtomicBool::new(false);
/// Held while files are written, so that the program does not end amid that.
static WRITING: Mutex<()> = Mutex::new(());

/// Starts to listen.
pub(super) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            if !DROPPING.swap(true, Ordering::SeqCst) {
                return;
            }
            let _writing = writing();
            #[allow(
                clippy::exit,
                reason = "decoders and encoders cannot be stopped otherwise"
            )]
            std::process::exit(exit::INTERRUPTED.into());
        }
        progress::note("interrupted: finishing this image; interrupt again to drop it");
    })
    .context("cannot listen for interrupts")
}

/// Whether the batch is to end.
pub(super) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Whether the image at work is to go on or be dropped, as a network's progress function says it.
pub(super) fn flow() -> ControlFlow<()> {
    match DROPPING.load(Ordering::SeqCst) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// While this is held the program is not ended by an interrupt.
pub(super) fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}
