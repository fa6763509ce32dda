//! Sends requests to another server, and reports how far a failed one got.
//!
//! 1. Requests go through any `tower::Service`, or through a [standard](Transport::standard) client.
//! 2. Each request is sent once. Whether to retry is up to the caller, who learns whether the server
//!    may have received the request.
//! 3. The standard client follows no redirects and uses no proxies of the environment.

mod body;
#[cfg(feature = "rustls")]
mod certificate;
mod client;
mod connector;
mod endpoint;
mod send_error;
#[cfg(test)]
mod tests;
#[cfg(feature = "rustls")]
mod tls;
mod tracked_io;

pub(crate) use self::body::{BoxBody, BoxError, ReadBodyError, read_body};
pub(crate) use self::client::Transport;
pub(crate) use self::endpoint::{Endpoint, PlainHttp, TransportConfigError};
pub(crate) use self::send_error::{SendError, SendErrorKind};
