use http::StatusCode;

/// Why a request was refused, more finely than the client is told.
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
    /// A token of our form whose checksum is wrong.
    DamagedToken,
    /// No store knows the token.
    UnknownToken,
    /// The record found has another digest.
    WrongDigest,
    /// The token was revoked.
    RevokedToken,
    /// The token is switched off.
    DisabledToken,
    /// The token's time is over.
    ExpiredToken,
    /// The secret was replaced by a rotation, and its grace is over.
    SupersededToken,
    /// The token's time has not begun.
    TokenNotYetValid,
    /// The token lacks a role or scope.
    InsufficientScope,
    /// Too many failures or requests.
    RateLimited,
    /// The store could not look.
    StoreUnavailable,
    /// The store holds a record that makes no sense.
    CorruptRecord,
    /// A guard or extractor has no [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
    MissingLayer,
}

impl RejectionReason {
    /// The reason in logs and metrics.
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
            Self::InsufficientScope => "insufficient_scope",
            Self::RateLimited => "rate_limited",
            Self::StoreUnavailable => "store_unavailable",
            Self::CorruptRecord => "corrupt_record",
            Self::MissingLayer => "missing_layer",
        }
    }

    /// The `code` a client is told.
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::RepeatedHeader
            | Self::ConflictingTokens
            | Self::MalformedHeader
            | Self::TokenTooLong => "invalid_request",
            Self::DamagedToken | Self::UnknownToken | Self::WrongDigest => "invalid_token",
            Self::RevokedToken => "token_revoked",
            Self::DisabledToken => "token_disabled",
            Self::ExpiredToken | Self::SupersededToken => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::InsufficientScope => "insufficient_scope",
            Self::RateLimited => "rate_limited",
            Self::StoreUnavailable => "auth_unavailable",
            Self::CorruptRecord | Self::MissingLayer => "internal",
        }
    }

    /// The status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            Self::RepeatedHeader
            | Self::ConflictingTokens
            | Self::MalformedHeader
            | Self::TokenTooLong => StatusCode::BAD_REQUEST,
            Self::MissingToken
            | Self::DamagedToken
            | Self::UnknownToken
            | Self::WrongDigest
            | Self::RevokedToken
            | Self::DisabledToken
            | Self::ExpiredToken
            | Self::SupersededToken
            | Self::TokenNotYetValid => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope => StatusCode::FORBIDDEN,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::CorruptRecord | Self::MissingLayer => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// One sentence for people, the same for all reasons that share a code.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::MissingToken => "the request presents no service token",
            Self::RepeatedHeader
            | Self::ConflictingTokens
            | Self::MalformedHeader
            | Self::TokenTooLong => {
                "the request must present one service token, once, in one of the accepted headers"
            }
            Self::DamagedToken | Self::UnknownToken | Self::WrongDigest => {
                "the service token is not valid"
            }
            Self::RevokedToken => "the service token was revoked",
            Self::DisabledToken => "the service token is disabled",
            Self::ExpiredToken | Self::SupersededToken => "the service token has expired",
            Self::TokenNotYetValid => "the service token is not valid yet",
            Self::InsufficientScope => "the service token lacks a required role or scope",
            Self::RateLimited => "too many requests",
            Self::StoreUnavailable => "service tokens cannot be checked at the moment",
            Self::CorruptRecord | Self::MissingLayer => "the request could not be authenticated",
        }
    }

    /// The `error` of RFC 6750 §3.1, where the fault is the client's credential.
    pub(super) fn challenge_error(self) -> Option<&'static str> {
        match self.status() {
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
            RejectionReason::InsufficientScope,
            RejectionReason::RateLimited,
            RejectionReason::StoreUnavailable,
            RejectionReason::CorruptRecord,
        ] {
            let plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"\\%".contains(&byte);
            assert!(reason.detail().bytes().all(plain), "{reason:?}");
        }
    }
}
