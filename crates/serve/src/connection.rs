//! A connection whose client must read what it is sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Bytes that a client sends or reads in a second at least.
const MIN_BYTES_PER_S: u64 = 16 << 10;

/// How long to wait for a client. Waiting uses it up, and each byte gives some of it back.
pub(crate) struct Patience {
    most: Duration,
    pub(crate) left: Duration,
}

impl Patience {
    pub(crate) fn new(most: Duration) -> Self {
        Self { most, left: most }
    }

    /// Counts bytes that came or went after some time.
    pub(crate) fn count(&mut self, waited: Duration, bytes: usize) {
        let earned = Duration::from_millis(bytes as u64 * 1000 / MIN_BYTES_PER_S);
        self.left = (self.left.saturating_sub(waited) + earned).min(self.most);
    }
}

/// A stream that fails if its client reads too slowly. Only time counts in which it reads nothing.
pub(crate) struct Connection {
    stream: TcpStream,
    patience: Patience,
    /// Since when the client has read nothing, and when that is too long.
    stall: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, delay: Duration) -> Self {
        Self {
            stream,
            patience: Patience::new(delay),
            stall: None,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Connection {
    /// Writes by `write`, and counts the time in which nothing is written.
    fn poll_writing(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), context) {
            let stall = self.stall.take();
            let waited = stall.map_or(Duration::ZERO, |(since, _)| since.elapsed());
            self.patience.count(waited, *written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        let allowed = self.patience.left;
        let start = || (Instant::now(), Box::pin(sleep(allowed)));
        let (_, sleep) = self.stall.get_or_insert_with(start);
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(context, |stream, context| stream.poll_write(context, bytes))
    }

    // Without it hyper copies the body of a response.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(context, |stream, context| {
            stream.poll_write_vectored(context, bytes)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
