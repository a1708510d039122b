//! Ctrl-C: the first finishes the current image, the second drops it, the third ends the program at
//! once. A partial file never has an image's name.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;

use crate::{exit, progress};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static DROPPING: AtomicBool = AtomicBool::new(false);
/// Held while files are written, so that the program does not end meanwhile.
static WRITING: Mutex<()> = Mutex::new(());

/// Starts to listen for interrupts.
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

/// Whether the batch should end.
pub(super) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Whether the current image should be dropped, as the result of a progress function.
pub(super) fn flow() -> ControlFlow<()> {
    match DROPPING.load(Ordering::SeqCst) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Keeps an interrupt from ending the program while the guard is held.
pub(super) fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}
