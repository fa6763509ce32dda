use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;

use crate::lifecycle::LifecycleError;
use crate::observe::{self, RequestInfo};
use crate::principal::Principal;
use crate::reject::Rejection;
use crate::token::TokenId;

/// The token that a request was made with, in the extensions of a response. Known only to the
/// handler if no layer inserts a [`Principal`].
#[derive(Clone, Copy)]
pub(super) struct CallerId(pub(super) TokenId);

/// Why a change was refused with `escalation_denied`, in the extensions of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escalation {
    reason: &'static str,
    /// How many roles and scopes the caller lacks, if that was the reason.
    missing: Option<usize>,
}

impl Escalation {
    /// Returns the reason if the error is `escalation_denied`.
    pub(super) fn of(error: &LifecycleError) -> Option<Self> {
        let (reason, missing) = match error {
            LifecycleError::EscalationDenied { missing } => {
                ("missing_roles_or_scopes", Some(missing.len()))
            }
            LifecycleError::TokensNotCovered { .. } => ("tokens_not_covered", None),
            LifecycleError::OutlivesActor { .. } => ("outlives_caller", None),
            _ => return None,
        };
        Some(Self { reason, missing })
    }
}

/// Logs each refusal and failure of an API once, with the request that it answers.
///
/// Put it inside the layer that inserts the [`Principal`]. The handlers log nothing themselves: the
/// [`Rejection`] in the extensions of their response has the cause. They find the [`RequestInfo`] in
/// the extensions of the request.
pub(super) async fn log_failures(mut request: Request, next: Next) -> Response {
    let info = info(&request);
    request.extensions_mut().insert(info.clone());
    let mut response = next.run(request).await;
    let extensions = response.extensions_mut();
    let caller = extensions.remove::<CallerId>();
    let info = info.with_caller(caller.map(|CallerId(id)| id));
    if let Some(mut rejection) = extensions.remove::<Rejection>() {
        observe::log(&mut rejection, &info);
        rejection.attach(extensions);
    }
    if let Some(Escalation { reason, missing }) = extensions.remove::<Escalation>() {
        observe::escalation_denied(reason, missing, &info);
    }
    response
}

fn info(request: &Request) -> RequestInfo {
    let extensions = request.extensions();
    let caller = extensions.get::<Principal>().map(Principal::id);
    let info = RequestInfo::of(request.headers(), extensions).with_caller(caller);
    match extensions.get::<MatchedPath>() {
        Some(path) => info.with_endpoint(format!("{} {}", request.method(), path.as_str())),
        None => info,
    }
}
