use crate::api::inspector::Inspector;
use crate::lifecycle::ServiceTokens;

/// What both endpoints share.
pub(super) struct OAuthState {
    /// Checks tokens that their holder presents.
    pub(super) inspector: Inspector,
    /// Checks tokens that a service introspects.
    pub(super) service_inspector: Inspector,
    pub(super) tokens: ServiceTokens,
    pub(super) issuer: Option<Box<str>>,
    pub(super) audience: Option<Box<str>>,
}
