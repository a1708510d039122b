//! A result that is sent while it is computed.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::engine::Work;
use crate::held::Reservation;

/// Parts that wait for the client. The work waits for a place.
const WAITING_PARTS: usize = 2;
/// Most bytes of a part.
const PART_BYTES: usize = 1 << 18;
/// Most bytes of the parts of a result: those that wait, one that is sent, and one that waits for a place.
pub(crate) const HELD_BYTES: u64 = (WAITING_PARTS as u64 + 2) * PART_BYTES as u64;

/// Takes the bytes of a result.
pub(crate) struct PartSender(mpsc::Sender<Bytes>);

pub(crate) type Parts = mpsc::Receiver<Bytes>;

pub(crate) fn parts() -> (PartSender, Parts) {
    let (sender, parts) = mpsc::channel(WAITING_PARTS);
    (PartSender(sender), parts)
}

impl Write for PartSender {
    /// Waits while the client lags. It must not run on a thread of the connections.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PART_BYTES)];
        let sent = self.0.blocking_send(Bytes::copy_from_slice(part));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone");
        sent.map_err(gone)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body of parts. If the work fails, the body breaks off without its end. The reservation is of the memory that they and
/// the work hold.
pub(crate) fn body<T: Send + 'static>(
    first: [Bytes; 2],
    parts: Parts,
    work: Work<T>,
    reservation: Reservation,
) -> Body {
    /// Dropped in this order, so that work whose client goes is stopped before it finds nobody to send to.
    struct Sending<T> {
        work: Work<T>,
        parts: Parts,
        _reservation: Reservation,
    }
    let sending = Sending {
        work,
        parts,
        _reservation: reservation,
    };
    let later = stream::unfold(Some(sending), async |sending| {
        let mut sending = sending?;
        if let Some(part) = sending.parts.recv().await {
            return Some((Ok(part), Some(sending)));
        }
        let failed = sending.work.result().await.err()?;
        Some((Err(io::Error::other(failed.message)), None))
    });
    Body::from_stream(stream::iter(first.map(Ok)).chain(later))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_waits_while_its_client_lags_and_fails_when_it_goes() {
        let (mut sender, mut receiver) = parts();
        let sent = Arc::new(AtomicUsize::new(0));
        let of_work = sent.clone();
        let work = thread::spawn(move || {
            loop {
                if let Err(error) = sender.write_all(&[7; PART_BYTES + 1]) {
                    return error;
                }
                of_work.fetch_add(1, Ordering::Relaxed);
            }
        });
        while receiver.len() < WAITING_PARTS {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
        assert_eq!(receiver.len(), WAITING_PARTS);
        assert!(sent.load(Ordering::Relaxed) <= 1, "{sent:?} writes");
        let first = receiver.blocking_recv().expect("a part");
        assert_eq!(first.len(), PART_BYTES);
        drop(receiver);
        let error = work.join().expect("no panic");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
