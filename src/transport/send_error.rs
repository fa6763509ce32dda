use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;

use http::Extensions;
use hyper_util::client::legacy;

use super::body::BoxError;
#[cfg(feature = "rustls")]
use super::certificate::TlsProblem;
use super::tracked_io::ResponseBegun;
use crate::text::ErrorChain;

/// A request got no response.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub(crate) struct SendError {
    pub(crate) kind: SendErrorKind,
    pub(crate) source: BoxError,
}

/// How far a request got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendErrorKind {
    /// DNS, TCP or TLS failed or timed out. Nothing was sent.
    #[error("no connection could be made")]
    Connect,
    /// The client does not accept the server's certificate. Nothing was sent.
    #[cfg(feature = "rustls")]
    #[error("the server's certificate is not accepted")]
    Certificate,
    /// The connection was closed or reset before the first byte of a response. The request may have
    /// been sent.
    #[error("the connection was closed before the response began")]
    ClosedBeforeResponse,
    /// Anything else, such as a truncated response, or one that is not HTTP.
    #[error("the request got no valid response")]
    Other,
}

impl SendError {
    /// Creates an error from the texts of `error` and its sources. The errors themselves are dropped,
    /// because one of a custom transport may contain the request, which its `Debug` would show.
    ///
    /// `query` is the query of the URL, which some services include in their errors. It is redacted.
    pub(crate) fn new(error: &(dyn Error + 'static), query: Option<&str>) -> Self {
        #[cfg(feature = "rustls")]
        match TlsProblem::of(error) {
            Some(TlsProblem::Certificate(reason)) => {
                let kind = SendErrorKind::Certificate;
                let source = reason.into();
                return Self { kind, source };
            }
            Some(TlsProblem::NoTls) => {
                let kind = SendErrorKind::Connect;
                let source = "the server does not speak TLS on this port".into();
                return Self { kind, source };
            }
            None => {}
        }
        let mut text = ErrorChain(error).to_string();
        if let Some(query) = query {
            text = text.replace(&format!("?{query}"), "?***");
        }
        Self {
            kind: classify(error),
            source: text.into(),
        }
    }
}

fn classify(error: &(dyn Error + 'static)) -> SendErrorKind {
    let mut chain = std::iter::successors(Some(error), |&error| error.source());
    chain.find_map(classify_one).unwrap_or(SendErrorKind::Other)
}

/// Classifies one error of a chain; the outermost that is known decides.
fn classify_one(error: &(dyn Error + 'static)) -> Option<SendErrorKind> {
    if let Some(error) = error.downcast_ref::<legacy::Error>() {
        if error.is_connect() {
            return Some(SendErrorKind::Connect);
        }
        // A request that hyper returns as canceled was never sent, whatever was read before it.
        let was_begun = !is_canceled(error.source());
        return (was_begun && response_has_begun(error)).then_some(SendErrorKind::Other);
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        let is_closed = error.is_canceled() || error.is_closed() || error.is_incomplete_message();
        return is_closed.then_some(SendErrorKind::ClosedBeforeResponse);
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable => Some(SendErrorKind::Connect),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Some(SendErrorKind::ClosedBeforeResponse),
        _ => None,
    }
}

fn is_canceled(error: Option<&(dyn Error + 'static)>) -> bool {
    let error = error.and_then(|error| error.downcast_ref::<hyper::Error>());
    error.is_some_and(hyper::Error::is_canceled)
}

/// Returns whether the standard client received a part of a response. hyper's own error does not
/// distinguish a truncated response from none.
fn response_has_begun(error: &legacy::Error) -> bool {
    let mut extras = Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extras);
    }
    let begun = extras.get::<ResponseBegun>();
    begun.is_some_and(|begun| begun.0.load(Ordering::Acquire))
}
