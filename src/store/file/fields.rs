use crate::store::TokenState;

/// The fields of a token, in the order in which they are written.
pub(super) const FIELDS: [&str; 11] = [
    "name",
    "digest",
    "id",
    "roles",
    "scopes",
    "subject",
    "description",
    "labels",
    "expires_at",
    "not_before",
    "state",
];

/// Returns the value of the field `state`.
pub(super) fn state_name(state: TokenState) -> &'static str {
    match state {
        TokenState::Active => "active",
        TokenState::Disabled => "disabled",
        TokenState::Revoked => "revoked",
    }
}
