use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may take none of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many bytes are read in a row before other tasks get their turn. A client that sends nothing
/// but control frames would otherwise keep a worker thread for long.
const MAX_READ_IN_A_ROW: usize = 64 * 1024;

/// A connection that fails when its client no longer takes what is written: it could otherwise
/// occupy its place for as long as it likes, at no cost.
pub(super) struct Unstalled<S> {
    stream: S,
    /// Runs while a write waits.
    patience: Option<Pin<Box<Sleep>>>,
    read_in_a_row: usize,
}

impl<S> Unstalled<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            patience: None,
            read_in_a_row: 0,
        }
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let patience = || Box::pin(sleep(PATIENCE));
        let patience = self.patience.get_or_insert_with(patience);
        let ended = patience.as_mut().poll(cx);
        ended.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_in_a_row >= MAX_READ_IN_A_ROW {
            self.read_in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let filled = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match read {
            Poll::Ready(_) => self.read_in_a_row += buf.filled().len() - filled,
            Poll::Pending => self.read_in_a_row = 0,
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, shut)
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
    async fn a_client_that_takes_nothing_is_given_up() {
        let (_client, server) = duplex(16);
        let begun = Instant::now();
        let written = Unstalled::new(server).write_all(&[0; 17]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_little_at_a_time_gets_all() {
        let (mut client, server) = duplex(16);
        let mut server = Unstalled::new(server);
        let writing = tokio::spawn(async move { server.write_all(&[0; 64]).await });
        for _ in 0..4 {
            sleep(PATIENCE.mul_f64(0.9)).await;
            client.read_exact(&mut [0; 16]).await.unwrap();
        }
        writing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_always_has_more_lets_other_tasks_run() {
        let (mut client, server) = duplex(4 * MAX_READ_IN_A_ROW);
        let bytes = vec![0; 3 * MAX_READ_IN_A_ROW];
        client.write_all(&bytes).await.unwrap();
        let mut server = Unstalled::new(server);
        let mut part = vec![0; MAX_READ_IN_A_ROW];
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
