use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may accept no bytes of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes that are read in a row before other tasks run. Otherwise a client that sends only
/// control frames could occupy a worker thread.
const MAX_CONSECUTIVE_READ: usize = 64 * 1024;

/// A stream that fails if the client accepts no bytes for a time. Otherwise the client could keep the
/// connection open at no cost.
pub(super) struct WriteTimeout<S> {
    stream: S,
    /// Runs while a write is pending.
    timer: Option<Pin<Box<Sleep>>>,
    consecutive_read: usize,
}

impl<S> WriteTimeout<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            timer: None,
            consecutive_read: 0,
        }
    }

    fn check_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let timer = || Box::pin(sleep(WRITE_TIMEOUT));
        let timer = self.timer.get_or_insert_with(timer);
        let ended = timer.as_mut().poll(cx);
        ended.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.consecutive_read >= MAX_CONSECUTIVE_READ {
            self.consecutive_read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let filled = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match read {
            Poll::Ready(_) => self.consecutive_read += buf.filled().len() - filled,
            Poll::Pending => self.consecutive_read = 0,
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.check_timeout(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.check_timeout(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.check_timeout(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.check_timeout(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn write_times_out_without_progress() {
        let (_client, server) = duplex(16);
        let begun = Instant::now();
        let written = WriteTimeout::new(server).write_all(&[0; 17]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WRITE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_reader_receives_everything() {
        let (mut client, server) = duplex(16);
        let mut server = WriteTimeout::new(server);
        let writing = tokio::spawn(async move { server.write_all(&[0; 64]).await });
        for _ in 0..4 {
            sleep(WRITE_TIMEOUT.mul_f64(0.9)).await;
            client.read_exact(&mut [0; 16]).await.unwrap();
        }
        writing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn long_reads_yield_to_other_tasks() {
        let (mut client, server) = duplex(4 * MAX_CONSECUTIVE_READ);
        let bytes = vec![0; 3 * MAX_CONSECUTIVE_READ];
        client.write_all(&bytes).await.unwrap();
        let mut server = WriteTimeout::new(server);
        let mut part = vec![0; MAX_CONSECUTIVE_READ];
        let mut poll = || {
            let mut read = pin!(server.read(&mut part));
            let mut cx = Context::from_waker(Waker::noop());
            read.as_mut().poll(&mut cx).is_ready()
        };
        assert!(poll());
        assert!(!poll(), "the task did not yield");
        assert!(poll(), "nothing is lost");
    }
}
