use std::error::Error;
use std::io::{self, ErrorKind};

use http::Extensions;
use hyper_util::client::legacy;

use super::BoxError;
use super::tracked_io::ResponseBegun;
use crate::text::ErrorChain;

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub(crate) struct SendError {
    pub(crate) kind: SendErrorKind,
    pub(crate) source: BoxError,
}

/// How far a request came that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendErrorKind {
    /// There was no connection, by DNS, TCP or TLS, or not in time. Nothing was sent.
    #[error("no connection could be made")]
    Connect,
    /// The connection was closed or reset before one byte of an answer came. The request may have
    /// been sent.
    #[error("the connection was closed before an answer began")]
    ClosedBeforeResponse,
    /// Anything else, as an answer that broke off or that is no HTTP.
    #[error("the request got no answer that can be read")]
    Other,
}

impl SendError {
    /// `query` is that of the request's URL, which some services put into their errors.
    pub(crate) fn new(error: &(dyn Error + 'static), query: Option<&str>) -> Self {
        let mut text = error_chain(error);
        if let Some(query) = query {
            text = text.replace(&format!("?{query}"), "?***");
        }
        Self {
            kind: classify(error),
            source: text.into(),
        }
    }
}

/// The texts of `error` and its sources. The errors themselves are dropped: an error of a transport
/// may hold the request, which its `Debug` would show.
pub(super) fn error_chain(error: &(dyn Error + 'static)) -> String {
    ErrorChain(error).to_string()
}

fn classify(error: &(dyn Error + 'static)) -> SendErrorKind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(kind) = classify_one(error) {
            return kind;
        }
        next = error.source();
    }
    SendErrorKind::Other
}

/// What one error of a chain tells, outer ones first.
fn classify_one(error: &(dyn Error + 'static)) -> Option<SendErrorKind> {
    if let Some(error) = error.downcast_ref::<legacy::Error>() {
        if error.is_connect() {
            return Some(SendErrorKind::Connect);
        }
        // A request that hyper gave back untouched was not begun, whatever was read before it.
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

/// hyper says "incomplete" of no answer and of half an answer alike; the standard client's
/// connections know.
fn response_has_begun(error: &legacy::Error) -> bool {
    let mut extras = Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extras);
    }
    extras
        .get::<ResponseBegun>()
        .is_some_and(ResponseBegun::get)
}
