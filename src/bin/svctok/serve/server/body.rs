use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use futures_util::task::AtomicWaker;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::{Buf, Bytes, Incoming};

use super::exchange::{EndReason, Exchange, Reservation};

/// The maximum bytes of a response that are handed to the connection at once.
const MAX_PART: usize = 16 * 1024;

/// A request's body that counts the bytes that it returns, and records when it waits for the client.
pub(super) struct RequestBody<B = Incoming> {
    inner: B,
    exchange: Arc<Exchange>,
    is_waiting: bool,
}

impl<B> RequestBody<B> {
    pub(super) fn new(inner: B, exchange: Arc<Exchange>) -> Self {
        Self {
            inner,
            exchange,
            is_waiting: false,
        }
    }

    /// Returns `false` if the exchange has ended, so that no handler gets a complete body of it.
    fn set_waiting(&mut self, is_waiting: bool) -> bool {
        if self.is_waiting != is_waiting {
            self.is_waiting = is_waiting;
            if is_waiting {
                self.exchange.wait_for_body();
            } else {
                return self.exchange.resume_work().is_ok();
            }
        }
        self.exchange.end_reason().is_none()
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if !self.set_waiting(polled.is_pending()) {
            // The request is rejected, and this body is not polled again.
            return Poll::Pending;
        }
        let data = match ready!(polled) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            },
            end => return Poll::Ready(end),
        };
        if self.exchange.receive(data.len()).is_err() {
            self.exchange.abort(EndReason::Overload);
            return Poll::Pending;
        }
        // A copy, because a short part may otherwise keep a whole read buffer in memory.
        let data = Bytes::copy_from_slice(&data);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        // If the exchange has ended, the result does not matter.
        let _ = self.set_waiting(false);
    }
}

/// A response's body whose bytes are counted until they are written to the connection.
///
/// The body ends only then, so that a response can be aborted until its last byte is written.
pub(super) struct ResponseBody {
    inner: Body,
    /// `None` if the body has no content.
    exchange: Option<Arc<Exchange>>,
    /// Covers the whole body, if its length is known beforehand.
    reservation: Option<Arc<Reservation>>,
    part: Option<(Bytes, Arc<Unsent>)>,
    last: Weak<Unsent>,
    waker: Arc<AtomicWaker>,
    is_sending: bool,
    /// Whether `inner` has ended: bodies may panic if they are polled again.
    has_ended: bool,
    is_done: bool,
}

/// A part of a response that is not completely written.
struct Unsent {
    reservation: Arc<Reservation>,
    waker: Arc<AtomicWaker>,
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.waker.wake();
    }
}

impl ResponseBody {
    /// Creates a body without content.
    pub(super) fn empty() -> Self {
        Self::new(Body::empty(), None, None)
    }

    /// Creates a body with the reservation for its length. If the length is unknown, each part is
    /// reserved when it arrives.
    pub(super) fn new(
        inner: Body,
        exchange: Option<Arc<Exchange>>,
        reservation: Option<Arc<Reservation>>,
    ) -> Self {
        Self {
            inner,
            exchange,
            reservation,
            part: None,
            last: Weak::new(),
            waker: Arc::default(),
            is_sending: false,
            has_ended: false,
            is_done: false,
        }
    }

    /// Returns the next piece of the current part.
    fn next_piece(&mut self) -> Option<Piece> {
        let (rest, unsent) = self.part.as_mut()?;
        let bytes = rest.split_to(rest.len().min(MAX_PART));
        let is_last = rest.is_empty();
        let unsent = Arc::clone(unsent);
        if is_last {
            self.part = None;
            self.last = Arc::downgrade(&unsent);
        }
        Some(Piece { bytes, unsent })
    }

    /// Returns `false` if there is no room for the part.
    fn begin_part(&mut self, bytes: Bytes) -> bool {
        let Some(exchange) = &self.exchange else {
            return false;
        };
        if !self.is_sending {
            self.is_sending = true;
            exchange.start_sending();
        }
        let reservation = if let Some(reservation) = &self.reservation {
            Arc::clone(reservation)
        } else if let Ok(reservation) = exchange.reserve(bytes.len()) {
            Arc::new(reservation)
        } else {
            exchange.abort(EndReason::Overload);
            return false;
        };
        let waker = Arc::clone(&self.waker);
        self.part = Some((bytes, Arc::new(Unsent { reservation, waker })));
        true
    }

    /// Polls the inner body until its end, which it returns again for each later call.
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, axum::Error>> {
        if self.has_ended || self.inner.is_end_stream() {
            return Poll::Ready(Ok(None));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.has_ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame.transpose())
    }

    fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.last.strong_count() > 0 {
            return Poll::Pending;
        }
        self.is_done = true;
        Poll::Ready(())
    }
}

impl http_body::Body for ResponseBody {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        loop {
            if let Some(piece) = self.next_piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.is_done {
                return Poll::Ready(None);
            }
            let Some(frame) = ready!(self.poll_inner(cx)?) else {
                ready!(self.poll_sent(cx));
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    if !self.begin_part(bytes) {
                        return Poll::Pending;
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_done || (!self.is_sending && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Bytes of a response that the connection is to write.
pub(super) struct Piece {
    bytes: Bytes,
    unsent: Arc<Unsent>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.unsent.reservation.exchange().progress();
    }
}

#[cfg(test)]
mod tests {
    use futures_channel::mpsc;
    use futures_util::{FutureExt, StreamExt};
    use http_body_util::{BodyExt, StreamBody};

    use super::super::activity::Activity;
    use super::super::exchange::BASE_COST;
    use super::super::in_flight::{Evict, InFlight};
    use super::*;

    #[tokio::test]
    async fn ended_exchange_yields_no_more_body() {
        let in_flight = InFlight::with_limit(2 * BASE_COST, metrics::Gauge::noop());
        let activity = Arc::new(Activity::new(None));
        let exchange = Exchange::begin(&in_flight, &activity, 0, true).unwrap();
        let (sender, receiver) = mpsc::unbounded::<Bytes>();
        let frames = receiver.map(|bytes| Ok::<_, axum::Error>(Frame::data(bytes)));
        let mut body = RequestBody::new(StreamBody::new(frames), Arc::clone(&exchange));
        sender.unbounded_send(Bytes::from_static(b"first")).unwrap();
        assert!(body.frame().now_or_never().is_some());
        assert!(body.frame().now_or_never().is_none());
        exchange.evict();
        sender.unbounded_send(Bytes::from_static(b"last")).unwrap();
        drop(sender);
        assert!(body.frame().now_or_never().is_none());
    }

    #[tokio::test]
    async fn inner_body_is_not_polled_after_its_end() {
        let in_flight = InFlight::with_limit(2 * BASE_COST, metrics::Gauge::noop());
        let activity = Arc::new(Activity::new(None));
        let exchange = Exchange::begin(&in_flight, &activity, 0, true).unwrap();
        // Panics if it is polled after its end.
        let parts = futures_util::stream::unfold(0, async |count| {
            let part = Ok::<_, axum::Error>(Bytes::from_static(b"part"));
            (count < 2).then_some((part, count + 1))
        });
        let mut body = ResponseBody::new(Body::from_stream(parts), Some(exchange), None);
        let mut pieces = Vec::new();
        for _ in 0..2 {
            pieces.push(body.frame().now_or_never().unwrap().unwrap().unwrap());
        }
        for _ in 0..2 {
            // The last piece is not written yet.
            assert!(body.frame().now_or_never().is_none());
        }
        drop(pieces);
        assert!(body.frame().now_or_never().unwrap().is_none());
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn inner_body_is_not_polled_after_an_error() {
        let parts = futures_util::stream::unfold(true, async |is_first| {
            is_first.then_some((Err::<Bytes, _>(axum::Error::new("broken")), false))
        });
        let mut body = ResponseBody::new(Body::from_stream(parts), None, None);
        assert!(body.frame().now_or_never().unwrap().unwrap().is_err());
        for _ in 0..2 {
            assert!(body.frame().now_or_never().unwrap().is_none());
        }
    }
}
