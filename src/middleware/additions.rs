use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderValue, Response};

use crate::principal::Principal;
use crate::reject::{Challenges, Rejection};

/// What to add to the response of an accepted request. Each request clones it: with the default realm
/// and headers it holds no reference count that all requests share.
#[derive(Clone, Default)]
pub(super) struct ResponseAdditions {
    vary: Option<HeaderValue>,
    challenges: Option<Challenges>,
    principal: Option<Principal>,
}

impl ResponseAdditions {
    pub(super) fn new(vary: Option<HeaderValue>, challenges: &Challenges) -> Option<Self> {
        let challenges = (*challenges != Challenges::DEFAULT).then(|| challenges.clone());
        (vary.is_some() || challenges.is_some()).then_some(Self {
            vary,
            challenges,
            principal: None,
        })
    }

    pub(super) fn with_principal(mut self, principal: Option<Principal>) -> Self {
        self.principal = principal;
        self
    }

    pub(super) fn apply<B>(&mut self, response: &mut Response<B>) {
        if let Some(principal) = self.principal.take() {
            response.extensions_mut().insert(principal);
        }
        if let Some(challenges) = &self.challenges {
            Rejection::fill_in_challenges(response, challenges);
        }
        if let Some(vary) = &self.vary {
            let headers = response.headers_mut();
            headers.append(VARY, vary.clone());
            let cache_control = headers.entry(CACHE_CONTROL);
            cache_control.or_insert(HeaderValue::from_static("private"));
        }
    }
}
