use http::{Extensions, Request};

use crate::authorize::Caller;
use crate::principal::{Identity, Principal};
use crate::reject::{Challenges, NoToken};

/// Inserts a caller into a request, as a [`ServiceTokenLayer`](crate::ServiceTokenLayer) does: the
/// [`Principal`] of a valid token, or an [`Identity`] that the application authenticated. Extractors and
/// guards accept it. A caller that was inserted before is replaced.
///
/// A `ServiceTokenLayer` that the request passes removes the caller, so call routes without one.
///
/// ```
/// use http::Request;
/// use tower_service_token::authorize::Caller;
/// use tower_service_token::principal::Identity;
/// use tower_service_token::{Principal, testing};
///
/// let request = testing::authenticated(Request::new(()), testing::principal("ci"));
/// assert_eq!(request.extensions().get::<Principal>().expect("inserted").name(), "ci");
///
/// let request = testing::authenticated(Request::new(()), Identity::new("alice"));
/// let caller = Caller::from_extensions(request.extensions())?;
/// assert_eq!(caller.identity().expect("inserted").name(), "alice");
/// # Ok::<_, tower_service_token::reject::Rejection>(())
/// ```
pub fn authenticated<B>(mut request: Request<B>, caller: impl Into<Caller>) -> Request<B> {
    insert(request.extensions_mut(), Some(caller.into()));
    request
}

/// Marks a request as one without a caller, as an [optional](crate::ServiceTokenLayer::optional) layer
/// does without a credential. `Option<Principal>` and `Option<Caller>` are `None`, and guards reject it
/// with 401. A caller that was inserted before is removed.
///
/// ```
/// use http::Request;
/// use tower_service_token::authorize::Caller;
/// use tower_service_token::testing;
///
/// let request = testing::anonymous(Request::new(()));
/// let rejection = Caller::from_extensions(request.extensions()).unwrap_err();
/// assert_eq!(rejection.status(), 401);
/// ```
pub fn anonymous<B>(mut request: Request<B>) -> Request<B> {
    insert(request.extensions_mut(), None);
    request
}

/// Replaces the caller of a request. `None` is a request without a credential.
pub(super) fn insert(extensions: &mut Extensions, caller: Option<Caller>) {
    let identity: Option<Identity> = match caller {
        Some(Caller::Token(principal)) => {
            extensions.insert(principal);
            return;
        }
        Some(Caller::Identity(identity)) => Some(identity),
        None => None,
    };
    extensions.remove::<Principal>();
    extensions.insert(NoToken::new(&Challenges::DEFAULT, identity));
}
