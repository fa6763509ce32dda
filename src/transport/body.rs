use std::error::Error;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use crate::text::ErrorChain;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// The maximum capacity that is reserved for the announced length of a body.
const MAX_PREALLOCATION: usize = 64 * 1024;

/// The body of a response could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBodyError {
    #[error("the body is too long")]
    TooLarge,
    #[error("the body could not be read to its end")]
    Failed(#[source] BoxError),
}

pub(super) fn boxed<B>(body: B) -> BoxBody
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let body =
        body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())));
    body.map_err(Into::into).boxed_unsync()
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_body(mut body: BoxBody, limit: usize) -> Result<Bytes, ReadBodyError> {
    // A short body gets its whole capacity at once: growing would leave copies of a secret behind.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let mut read = BytesMut::with_capacity(announced.min(limit).min(MAX_PREALLOCATION));
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ReadBodyError::Failed(ErrorChain(&*error).to_string().into()))?;
        // Trailers are ignored.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > limit - read.len() {
            return Err(ReadBodyError::TooLarge);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}
