use std::sync::OnceLock;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::{Rejection, RejectionReason};
use crate::wire::{Problem, RequiredNames};

/// Builds the response to a rejected request.
///
/// Implemented for any `FnMut(&Rejection) -> Response<B> + Clone`, so a closure can be passed to
/// [`ServiceTokenLayer::with_rejection_response`](crate::ServiceTokenLayer::with_rejection_response).
/// The request does not reach the inner service in any case.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot build a response with the body `{B}`",
    note = "the default, `ProblemJson`, needs a body that is `From<String>`; for one with a \
            `Default` there is `GrpcStatus`, for any other a closure, by `with_rejection_response`",
    note = "a layer inside that wraps the response body can be undone by mapping the body back"
)]
pub trait ResponseForRejection<B>: Clone {
    /// Builds the response.
    fn response_for_rejection(&mut self, rejection: &Rejection) -> Response<B>;
}

impl<F, B> ResponseForRejection<B> for F
where
    F: FnMut(&Rejection) -> Response<B> + Clone,
{
    fn response_for_rejection(&mut self, rejection: &Rejection) -> Response<B> {
        self(rejection)
    }
}

/// Responds with `application/problem+json` (RFC 9457), whatever the request. The default.
///
/// Supports any body that is `From<String>`, such as axum's `Body` and
/// `http_body_util::Full<Bytes>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemJson;

impl<B: From<String>> ResponseForRejection<B> for ProblemJson {
    fn response_for_rejection(&mut self, rejection: &Rejection) -> Response<B> {
        let mut response = rejection.to_response(problem_json(rejection).into());
        let media_type = HeaderValue::from_static(Problem::MEDIA_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        response
    }
}

/// Responds to gRPC requests in gRPC, and to others with the status and headers without a body. For
/// gRPC services.
///
/// A gRPC response has the HTTP status 200. Do not use this builder for a service whose HTTP status
/// decides about access, such as one that a reverse proxy asks.
///
/// Supports any body that is [`Default`], such as tonic's and axum's.
///
/// ```
/// use tower_service_token::reject::GrpcStatus;
/// use tower_service_token::{MemoryStore, ServiceTokenLayer};
///
/// let layer = ServiceTokenLayer::new(MemoryStore::new()).with_rejection_response(GrpcStatus);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcStatus;

impl<B: Default> ResponseForRejection<B> for GrpcStatus {
    fn response_for_rejection(&mut self, rejection: &Rejection) -> Response<B> {
        if rejection.is_grpc() {
            rejection.to_grpc_response(B::default())
        } else {
            rejection.to_response(B::default())
        }
    }
}

/// Returns the body of a rejection.
fn problem_json(rejection: &Rejection) -> String {
    /// The bodies of rejections without further members, by reason.
    static BODIES: [OnceLock<String>; RejectionReason::COUNT] =
        [const { OnceLock::new() }; RejectionReason::COUNT];

    if rejection.required().is_some() {
        return problem(rejection).to_json();
    }
    let body = BODIES[rejection.reason() as usize].get_or_init(|| {
        Problem::new(rejection.status(), rejection.code(), rejection.detail()).to_json()
    });
    let Some(id) = rejection.display_id() else {
        return body.clone();
    };
    // A displayed id needs no escape.
    let members = body.strip_suffix('}').expect("a JSON object");
    let mut body = String::with_capacity(body.len() + r#","token_id":"0123456789""#.len());
    body.push_str(members);
    body.push_str(",\"token_id\":\"");
    id.push_to(&mut body);
    body.push_str("\"}");
    body
}

/// Describes a rejection in the members of RFC 9457.
fn problem(rejection: &Rejection) -> Problem {
    let problem = Problem::new(rejection.status(), rejection.code(), rejection.detail());
    let mut required = RequiredNames::from_requirements(rejection.requirements()).into_iter();
    Problem {
        token_id: rejection.display_id().map(|id| id.to_string()),
        required: required.next(),
        also_required: Some(required.collect::<Vec<_>>()).filter(|rest| !rest.is_empty()),
        ..problem
    }
}

#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for Rejection {
    fn into_response(self) -> axum_core::response::Response {
        let mut response = ProblemJson.response_for_rejection(&self);
        self.attach(response.extensions_mut());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::DisplayId;

    #[test]
    fn prepared_bodies_equal_serialized_ones() {
        let id: crate::token::TokenId = "7Hq2mX9bTe".parse().expect("an id");
        let own = DisplayId::new("<tenant/7>:{key},100%").expect("visible");
        for (token_id, own) in [(None, None), (Some(id), None), (Some(id), Some(&own))] {
            for reason in [RejectionReason::MissingToken, RejectionReason::ExpiredToken] {
                let rejection = Rejection::new(reason)
                    .with_token_id(token_id)
                    .with_display_id(own);
                for _ in 0..2 {
                    assert_eq!(problem_json(&rejection), problem(&rejection).to_json());
                }
            }
        }
    }
}
