use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a byte was received since the last request began to be written.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponseBegun(pub(super) Arc<AtomicBool>);

/// An HTTP/1.1 connection that records whether the response has begun.
///
/// A request begins with the first write after a flush, because hyper flushes only complete requests
/// or full buffers. A response that begins while the request is still being written counts.
#[derive(Debug)]
pub(super) struct TrackedIo<T> {
    io: T,
    response: ResponseBegun,
    is_flushed: bool,
}

impl<T> TrackedIo<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            response: ResponseBegun::default(),
            is_flushed: true,
        }
    }

    fn note_write(&mut self) {
        if std::mem::take(&mut self.is_flushed) {
            self.response.0.store(false, Ordering::Release);
        }
    }
}

impl<T: Connection> Connection for TrackedIo<T> {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.response.clone())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TrackedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.response.0.store(true, Ordering::Release);
        }
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TrackedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.note_write();
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    // Without this, hyper copies a body, which may have secrets, into a buffer that is not zeroed.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note_write();
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.is_flushed |= flushed.is_ok();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
