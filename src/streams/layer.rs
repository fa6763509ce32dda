use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;
use tower_layer::Layer;

use super::redemption::redeem;
use super::ticket_sources::{Malformed, TicketSources};
use super::tickets::Tickets;
use crate::limits::RequestOrigin;
use crate::middleware::{ServiceToken, ServiceTokenFuture, ServiceTokenLayer};
use crate::reject::{ProblemJson, RejectionReason, ResponseForRejection};

/// Layer that also accepts tickets, on the routes that it is put around. Applies
/// [`TicketService`].
///
/// See the [module](super) for the rules and an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct TicketLayer<R = ProblemJson> {
    tokens: ServiceTokenLayer<R>,
    tickets: Tickets,
    sources: TicketSources,
}

impl<R> TicketLayer<R> {
    /// Creates a layer that accepts a ticket from `tickets`, or else whatever `tokens` accepts.
    ///
    /// The token behind a ticket is looked up in the store of `tokens`, whose settings apply to tickets
    /// as well: the clock, the response to a rejection, the failure limit, the audit sink and last uses.
    pub fn new(tokens: ServiceTokenLayer<R>, tickets: Tickets) -> Self {
        let sources = TicketSources {
            query: true,
            protocol: true,
        };
        Self {
            tokens,
            tickets,
            sources,
        }
    }

    /// Does not read the query, so that no ticket is in a URL. By default it is read.
    ///
    /// Only WebSocket clients can then present a ticket. A URL with a ticket is rejected with 400, because
    /// the inner service would get it.
    pub fn without_query(mut self) -> Self {
        self.sources.query = false;
        self
    }

    /// Does not read `Sec-WebSocket-Protocol`. By default it is read. A ticket there is then rejected with
    /// 400.
    pub fn without_websocket_protocol(mut self) -> Self {
        self.sources.protocol = false;
        self
    }
}

impl<S, R: Clone> Layer<S> for TicketLayer<R> {
    type Service = TicketService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        TicketService {
            inner: self.tokens.layer(inner),
            tickets: self.tickets.clone(),
            sources: self.sources,
        }
    }
}

/// Middleware that accepts requests with a ticket or a valid service token.
///
/// Created by [`TicketLayer`]. See the [module](super).
#[derive(Clone)]
pub struct TicketService<S, R = ProblemJson> {
    inner: ServiceToken<S, R>,
    tickets: Tickets,
    sources: TicketSources,
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for TicketService<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: ResponseForRejection<ResBody>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ServiceTokenFuture<S, R, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let mut uri = std::mem::take(request.uri_mut());
        let ticket = self.sources.take(&mut uri, request.headers_mut());
        *request.uri_mut() = uri;
        let checker = self.inner.checker();
        let ticket = match ticket {
            Ok(None) => return self.inner.call(request),
            // A token beside the ticket makes it unclear who the caller is.
            Ok(Some(ticket)) => match checker.read(request.headers_mut()) {
                Ok(None) => Ok(ticket),
                Ok(Some(_)) | Err(_) => Err(Malformed),
            },
            Err(malformed) => Err(malformed),
        };
        let checker = Arc::clone(checker);
        let origin = RequestOrigin::from_extensions(request.extensions());
        let Ok(ticket) = ticket else {
            let rejection = checker.reject(RejectionReason::MalformedTicket);
            return self.inner.reject_with(rejection, &request);
        };
        let lookup = redeem(checker, self.tickets.clone(), ticket, origin);
        self.inner.call_after(request, Box::pin(lookup))
    }
}

impl<S: fmt::Debug, R> fmt::Debug for TicketService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketService")
            .field("inner", &self.inner)
            .field("tickets", &self.tickets)
            .finish_non_exhaustive()
    }
}
