use std::sync::Arc;
use std::time::SystemTime;

use super::claims::{Claims, ClaimsParser};
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::store::TokenRecord;
use crate::token::TokenId;

/// The cached result of a call.
#[derive(Clone)]
pub(super) enum CachedToken {
    Inactive,
    /// A token that met all rules when the server responded, and its weight. Until it expires it meets
    /// them for good: an audience does not change, and a start does not return.
    Valid(TokenRecord, usize),
    /// A token that violated a rule. They are checked at each use.
    Violating(Arc<ActiveToken>),
}

pub(super) struct ActiveToken {
    claims: Claims,
    record: TokenRecord,
}

impl CachedToken {
    pub(super) fn active(
        claims: Claims,
        digest: TokenDigest,
        rules: &Rules,
        now: SystemTime,
    ) -> Self {
        let record = rules.record(&claims, digest);
        if rules.check(&claims, || now).is_ok() {
            Self::Valid(record, claims.weight())
        } else {
            Self::Violating(Arc::new(ActiveToken { claims, record }))
        }
    }

    /// Returns the record of an active token that meets the rules at this moment, or the rule that it
    /// violates. Returns `None` if the token is inactive.
    pub(super) fn check(
        &self,
        rules: &Rules,
        clock: &dyn Clock,
    ) -> Option<Result<&TokenRecord, ClaimViolation>> {
        match self {
            Self::Inactive => None,
            Self::Valid(record, _) if self.is_current(clock) => Some(Ok(record)),
            Self::Valid(..) => Some(Err("expired")),
            Self::Violating(token) => {
                let checked = rules.check(&token.claims, || clock.now());
                Some(checked.map(|()| &token.record))
            }
        }
    }

    /// Returns whether the token has not expired. The server is called again for one that has.
    pub(super) fn is_current(&self, clock: &dyn Clock) -> bool {
        let end = match self {
            Self::Inactive => None,
            Self::Valid(record, _) => record.expires_at(),
            Self::Violating(token) => token.claims.expires_at,
        };
        end.is_none_or(|end| clock.now() < end)
    }

    /// Returns about how many bytes of memory the token uses.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Inactive => 1,
            Self::Valid(_, weight) => *weight,
            Self::Violating(token) => token.claims.weight(),
        }
    }
}

type ScopeMapping = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The rules that an active token must meet, and how to convert it to a record.
#[derive(Clone, Default)]
pub(super) struct Rules {
    pub(super) claims_parser: ClaimsParser,
    pub(super) audience: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) requires_issuer: bool,
    pub(super) allows_missing_subject: bool,
    pub(super) scope_mapping: Option<ScopeMapping>,
}

/// The name of the rule that an active token violates, as in the metrics.
pub(super) type ClaimViolation = &'static str;

impl Rules {
    /// Checks an active token.
    pub(super) fn check(
        &self,
        claims: &Claims,
        now: impl FnOnce() -> SystemTime,
    ) -> Result<(), ClaimViolation> {
        let times = [claims.expires_at, claims.not_before, claims.issued_at];
        let now = times.iter().any(Option::is_some).then(now);
        let is_past = |time: Option<SystemTime>| time.is_some() && now >= time;
        let latest_issue = now.map(|now| now + self.claims_parser.leeway.start);
        let has_subject = claims.subject.is_some() || claims.client_id.is_some();
        let token_type = claims.token_type.as_deref();
        let violation = if is_past(claims.expires_at) {
            "expired"
        } else if claims.not_before.is_some() && !is_past(claims.not_before) {
            "not_yet_valid"
        } else if claims.issued_at.is_some() && latest_issue < claims.issued_at {
            "issued_in_the_future"
        } else if claims.is_bound {
            "bound_to_a_key"
        } else if !token_type.is_none_or(is_bearer) {
            "token_type"
        } else if !self.matches_audience(claims) {
            "audience"
        } else if !self.matches_issuer(claims) {
            "issuer"
        } else if !has_subject && !self.allows_missing_subject {
            "no_subject"
        } else {
            return Ok(());
        };
        Err(violation)
    }

    fn matches_audience(&self, claims: &Claims) -> bool {
        let wanted = self.audience.as_ref();
        wanted.is_none_or(|wanted| claims.audience.contains(wanted))
    }

    fn matches_issuer(&self, claims: &Claims) -> bool {
        match (&self.issuer, &claims.issuer) {
            (Some(wanted), Some(issuer)) => wanted == issuer,
            (_, None) => !self.requires_issuer,
            (None, Some(issuer)) => !(self.requires_issuer && issuer.is_empty()),
        }
    }

    /// Converts the claims to a record.
    pub(super) fn record(&self, claims: &Claims, digest: TokenDigest) -> TokenRecord {
        let id = id(claims, &digest);
        let subject = claims.subject.as_deref().or(claims.client_id.as_deref());
        let names = [
            &claims.name,
            &claims.username,
            &claims.client_id,
            &claims.subject,
        ];
        let name = names.into_iter().flatten().next();
        let mut record = TokenRecord::new(id, digest)
            .with_name(name.map_or("", String::as_str))
            .with_roles(&claims.roles)
            .with_scopes(self.scopes(claims))
            .with_expires_at(claims.expires_at);
        // Some servers repeat `jti` as the subject of a token that acts for itself.
        if subject.is_some() && subject != claims.jti.as_deref() {
            record = record.with_subject(subject);
        }
        if claims.owner.is_some() {
            record = record.with_owner(claims.owner.as_deref());
        }
        if claims.not_before.is_some() {
            record = record.with_not_before(claims.not_before);
        }
        if claims.issued_at.is_some() {
            record = record.with_created_at(claims.issued_at);
        }
        claims.labels.iter().fold(record, |record, (key, value)| {
            record.with_label(&**key, &**value)
        })
    }

    fn scopes(&self, claims: &Claims) -> Vec<String> {
        match &self.scope_mapping {
            None => claims.scopes.clone(),
            Some(map) => claims
                .scopes
                .iter()
                .filter_map(|scope| map(scope))
                .collect(),
        }
    }
}

fn is_bearer(token_type: &str) -> bool {
    ["bearer", "access_token"]
        .iter()
        .any(|bearer| token_type.eq_ignore_ascii_case(bearer))
}

/// Returns `jti` if it is a token id. Otherwise derives an id from `iss` and `jti`, or without `jti` from
/// the digest.
fn id(claims: &Claims, digest: &TokenDigest) -> TokenId {
    let own = claims.jti.as_deref().and_then(|jti| jti.parse().ok());
    own.unwrap_or_else(|| {
        let issuer = claims.issuer.as_deref().unwrap_or_default();
        let named = claims.jti.as_ref().map(|jti| format!("{issuer}\0{jti}"));
        let unique = named
            .as_ref()
            .map_or(&digest.as_bytes()[..], |it| it.as_bytes());
        let parts = [b"tower-service-token id\0".as_slice(), unique].concat();
        TokenId::from_hash(TokenDigest::of_bytes(&parts).index())
    })
}

#[cfg(test)]
mod tests;
