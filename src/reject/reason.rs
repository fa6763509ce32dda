use http::StatusCode;

use crate::store::{DenialKind, StoreErrorKind};

/// Why a request was rejected, in more detail than the response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionReason {
    /// No credential.
    MissingToken,
    /// A credential header occurs more than once.
    RepeatedHeader,
    /// Two sources present different tokens.
    ConflictingTokens,
    /// A credential header cannot be read.
    MalformedHeader,
    /// The token is longer than the service accepts.
    TokenTooLong,
    /// A token of the service's format with a wrong checksum.
    DamagedToken,
    /// The token is unknown to the store.
    UnknownToken,
    /// The record has another digest.
    WrongDigest,
    /// The token was revoked.
    RevokedToken,
    /// The token is disabled.
    DisabledToken,
    /// The token has expired.
    ExpiredToken,
    /// The secret was replaced by a rotation, and its grace period has ended.
    SupersededToken,
    /// The token is not valid yet.
    TokenNotYetValid,
    /// A stream ticket is unknown, expired or used, or the rights of its token have changed.
    InvalidTicket,
    /// A stream ticket cannot be read, is not the only credential, or is where none is accepted.
    MalformedTicket,
    /// The token, its owner or the store has too many unused stream tickets.
    TooManyTickets,
    /// The token or its owner has too many open streams.
    TooManyStreams,
    /// The token lacks a role or scope.
    InsufficientScope,
    /// The [identity](crate::principal::Identity) of the application lacks a role or scope.
    IdentityInsufficientScope,
    /// Too many failures or requests.
    RateLimited,
    /// The store is unavailable.
    StoreUnavailable,
    /// The store was unavailable during a change, which may have been made. Only the routers of `api`
    /// and a [`LifecycleError`](crate::lifecycle::LifecycleError) have this reason.
    ChangeFailed,
    /// The [check](crate::lifecycle::ActorCheck) of the caller is unavailable, and nothing was read or
    /// changed. This reason and the next two are only those of the routers of `api` and of a
    /// [`LifecycleError`](crate::lifecycle::LifecycleError).
    ActorCheckUnavailable,
    /// The [policies of owners](crate::lifecycle::OwnerPolicies) are unavailable, and nothing was
    /// changed.
    OwnerPoliciesUnavailable,
    /// The operating system returned no random bytes for a secret, and nothing was changed.
    NoRandomBytes,
    /// The store has a corrupt record.
    CorruptRecord,
    /// A guard or extractor has no [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
    MissingLayer,
}

impl RejectionReason {
    /// The number of reasons.
    pub(crate) const COUNT: usize = Self::MissingLayer as usize + 1;

    /// Returns the reason if the failed lookup was part of a change. If the store is unavailable, the
    /// change failed, or its outcome is unknown.
    pub(super) fn of_change(self) -> Self {
        match self {
            Self::StoreUnavailable => Self::ChangeFailed,
            reason => reason,
        }
    }

    /// Returns the reason in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::RepeatedHeader => "repeated_header",
            Self::ConflictingTokens => "conflicting_tokens",
            Self::MalformedHeader => "malformed_header",
            Self::TokenTooLong => "token_too_long",
            Self::DamagedToken => "damaged_token",
            Self::UnknownToken => "unknown_token",
            Self::WrongDigest => "wrong_digest",
            Self::RevokedToken => "revoked_token",
            Self::DisabledToken => "disabled_token",
            Self::ExpiredToken => "expired_token",
            Self::SupersededToken => "superseded_token",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::InvalidTicket => "invalid_ticket",
            Self::MalformedTicket => "malformed_ticket",
            Self::TooManyTickets => "too_many_tickets",
            Self::TooManyStreams => "too_many_streams",
            Self::InsufficientScope => "insufficient_scope",
            Self::IdentityInsufficientScope => "identity_insufficient_scope",
            Self::RateLimited => "rate_limited",
            Self::StoreUnavailable => "store_unavailable",
            Self::ChangeFailed => "change_failed",
            Self::ActorCheckUnavailable => "actor_check_unavailable",
            Self::OwnerPoliciesUnavailable => "owner_policies_unavailable",
            Self::NoRandomBytes => "no_random_bytes",
            Self::CorruptRecord => "corrupt_record",
            Self::MissingLayer => "missing_layer",
        }
    }

    /// Returns the `code` in the response.
    pub fn code(self) -> &'static str {
        self.response().0
    }

    /// Returns the status of the response.
    pub fn status(self) -> StatusCode {
        self.response().1
    }

    /// Returns a description for people, the same for all reasons with the same code, except that it
    /// does not call an identity or a ticket a token, and names a limit of streams and what is
    /// unavailable.
    pub(super) fn detail(self) -> &'static str {
        self.response().2
    }

    /// Returns the code, the status and the detail of the response.
    fn response(self) -> &'static (&'static str, StatusCode, &'static str) {
        match self {
            Self::MissingToken => &MISSING_TOKEN,
            Self::RepeatedHeader
            | Self::ConflictingTokens
            | Self::MalformedHeader
            | Self::TokenTooLong => &INVALID_REQUEST,
            Self::DamagedToken | Self::UnknownToken | Self::WrongDigest => &INVALID_TOKEN,
            Self::RevokedToken => &TOKEN_REVOKED,
            Self::DisabledToken => &TOKEN_DISABLED,
            Self::ExpiredToken | Self::SupersededToken => &TOKEN_EXPIRED,
            Self::TokenNotYetValid => &TOKEN_NOT_YET_VALID,
            Self::InvalidTicket => &INVALID_TICKET,
            Self::MalformedTicket => &MALFORMED_TICKET,
            Self::TooManyTickets => &TOO_MANY_TICKETS,
            Self::TooManyStreams => &TOO_MANY_STREAMS,
            Self::InsufficientScope => &INSUFFICIENT_SCOPE,
            Self::IdentityInsufficientScope => &IDENTITY_INSUFFICIENT_SCOPE,
            Self::RateLimited => &RATE_LIMITED,
            Self::StoreUnavailable => &AUTH_UNAVAILABLE,
            Self::ChangeFailed => &CHANGE_FAILED,
            Self::ActorCheckUnavailable => &ACTOR_CHECK_UNAVAILABLE,
            Self::OwnerPoliciesUnavailable => &OWNER_POLICIES_UNAVAILABLE,
            Self::NoRandomBytes => &NO_RANDOM_BYTES,
            Self::CorruptRecord | Self::MissingLayer => &INTERNAL,
        }
    }

    /// Returns the `error` of RFC 6750 §3.1, if the client's token is at fault.
    pub(super) fn challenge_error(self) -> Option<&'static str> {
        match self.status() {
            _ if self == Self::IdentityInsufficientScope => None,
            StatusCode::BAD_REQUEST => Some("invalid_request"),
            StatusCode::FORBIDDEN => Some("insufficient_scope"),
            StatusCode::UNAUTHORIZED if self != Self::MissingToken => Some("invalid_token"),
            _ => None,
        }
    }

    pub(super) fn grpc_status(self) -> i32 {
        match self.status() {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::FORBIDDEN => 7,
            StatusCode::TOO_MANY_REQUESTS => 8,
            StatusCode::INTERNAL_SERVER_ERROR => 13,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            _ => 16,
        }
    }
}

/// Converts the denial of a [verdict](crate::store::verdict()).
impl From<DenialKind> for RejectionReason {
    fn from(kind: DenialKind) -> Self {
        match kind {
            DenialKind::Unknown => Self::UnknownToken,
            DenialKind::WrongDigest => Self::WrongDigest,
            DenialKind::Revoked => Self::RevokedToken,
            DenialKind::Disabled => Self::DisabledToken,
            DenialKind::Expired => Self::ExpiredToken,
            DenialKind::Superseded => Self::SupersededToken,
            DenialKind::NotYetValid => Self::TokenNotYetValid,
        }
    }
}

/// Converts the kind of a [`StoreError`](crate::store::StoreError).
impl From<StoreErrorKind> for RejectionReason {
    fn from(kind: StoreErrorKind) -> Self {
        match kind {
            StoreErrorKind::Unavailable => Self::StoreUnavailable,
            StoreErrorKind::RateLimited => Self::RateLimited,
            StoreErrorKind::Corrupt => Self::CorruptRecord,
        }
    }
}

macro_rules! responses {
    ($($name:ident: $code:literal, $status:ident, $detail:literal;)+) => {
        $(const $name: (&str, StatusCode, &str) = ($code, StatusCode::$status, $detail);)+
    };
}

responses! {
    MISSING_TOKEN: "missing_token", UNAUTHORIZED, "no service token provided";
    INVALID_REQUEST: "invalid_request", BAD_REQUEST,
        "the request must present one service token, once, in one of the accepted headers";
    INVALID_TOKEN: "invalid_token", UNAUTHORIZED, "the service token is not valid";
    TOKEN_REVOKED: "token_revoked", UNAUTHORIZED, "the service token was revoked";
    TOKEN_DISABLED: "token_disabled", UNAUTHORIZED, "the service token is disabled";
    TOKEN_EXPIRED: "token_expired", UNAUTHORIZED, "the service token has expired";
    TOKEN_NOT_YET_VALID: "token_not_yet_valid", UNAUTHORIZED, "the service token is not valid yet";
    INVALID_TICKET: "invalid_ticket", UNAUTHORIZED, "the stream ticket is not valid";
    MALFORMED_TICKET: "invalid_request", BAD_REQUEST,
        "the request must present one stream ticket, once, where the route accepts it, \
         as its only credential; in Sec-WebSocket-Protocol beside the protocol of the application";
    TOO_MANY_TICKETS: "rate_limited", TOO_MANY_REQUESTS, "too many unused stream tickets";
    TOO_MANY_STREAMS: "rate_limited", TOO_MANY_REQUESTS, "too many open streams";
    INSUFFICIENT_SCOPE: "insufficient_scope", FORBIDDEN,
        "the service token lacks a required role or scope";
    IDENTITY_INSUFFICIENT_SCOPE: "insufficient_scope", FORBIDDEN,
        "the caller lacks a required role or scope";
    RATE_LIMITED: "rate_limited", TOO_MANY_REQUESTS, "too many requests";
    AUTH_UNAVAILABLE: "auth_unavailable", SERVICE_UNAVAILABLE,
        "service tokens cannot be checked at the moment";
    CHANGE_FAILED: "change_failed", SERVICE_UNAVAILABLE,
        "the token store is unavailable: the change failed, or its outcome is unknown";
    ACTOR_CHECK_UNAVAILABLE: "auth_unavailable", SERVICE_UNAVAILABLE,
        "the login of the caller cannot be checked at the moment; nothing was changed";
    OWNER_POLICIES_UNAVAILABLE: "change_failed", SERVICE_UNAVAILABLE,
        "the limits of the owner cannot be read at the moment; nothing was changed";
    NO_RANDOM_BYTES: "change_failed", SERVICE_UNAVAILABLE,
        "no secret can be generated at the moment; nothing was changed";
    INTERNAL: "internal", INTERNAL_SERVER_ERROR, "the request could not be authenticated";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_need_no_escaping_in_headers() {
        for reason in [
            RejectionReason::MissingToken,
            RejectionReason::RepeatedHeader,
            RejectionReason::UnknownToken,
            RejectionReason::RevokedToken,
            RejectionReason::DisabledToken,
            RejectionReason::ExpiredToken,
            RejectionReason::TokenNotYetValid,
            RejectionReason::InvalidTicket,
            RejectionReason::MalformedTicket,
            RejectionReason::TooManyTickets,
            RejectionReason::TooManyStreams,
            RejectionReason::InsufficientScope,
            RejectionReason::IdentityInsufficientScope,
            RejectionReason::RateLimited,
            RejectionReason::StoreUnavailable,
            RejectionReason::ChangeFailed,
            RejectionReason::ActorCheckUnavailable,
            RejectionReason::OwnerPoliciesUnavailable,
            RejectionReason::NoRandomBytes,
            RejectionReason::CorruptRecord,
        ] {
            let plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"\\%".contains(&byte);
            assert!(reason.detail().bytes().all(plain), "{reason:?}");
        }
    }
}
