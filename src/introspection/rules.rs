use std::sync::Arc;
use std::time::SystemTime;

use super::claims::{Claims, ClaimsParser};
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::store::TokenRecord;
use crate::token::TokenId;

/// The cached result of a call: `None` if the token is not active.
pub(super) type CachedToken = Option<Arc<ActiveToken>>;

pub(super) struct ActiveToken {
    pub(super) claims: Claims,
    pub(super) record: TokenRecord,
    /// Whether the token met all rules when the server responded. Until it expires it meets them for
    /// good: an audience does not change, and a start does not return.
    is_valid: bool,
}

impl ActiveToken {
    pub(super) fn new(claims: Claims, digest: TokenDigest, rules: &Rules, now: SystemTime) -> Self {
        Self {
            record: rules.record(&claims, digest),
            is_valid: rules.check(&claims, || now).is_ok(),
            claims,
        }
    }

    /// Returns the record of a [current](Self::is_current) token that meets the rules, or `None` if
    /// they must be checked at this moment.
    pub(super) fn valid_record(&self) -> Option<&TokenRecord> {
        self.is_valid.then_some(&self.record)
    }

    /// Returns whether the token has not expired. The server is called again for one that has.
    pub(super) fn is_current(&self, clock: &dyn Clock) -> bool {
        let end = self.claims.expires_at;
        end.is_none_or(|end| clock.now() < end)
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
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn claims(members: &str) -> Claims {
        let body = format!("{{\"active\":true,{members}}}");
        let claims_parser = ClaimsParser::default();
        claims_parser
            .parse(body.as_bytes())
            .unwrap()
            .expect("active")
    }

    fn verify(rules: &Rules, members: &str) -> Result<(), ClaimViolation> {
        rules.check(&claims(members), || at(1_000))
    }

    #[test]
    fn enforces_exp_nbf_and_iat() {
        let rules = Rules::default();
        assert_eq!(verify(&rules, r#""sub":"s","exp":1001"#), Ok(()));
        assert_eq!(verify(&rules, r#""sub":"s","exp":1000"#), Err("expired"));
        assert_eq!(verify(&rules, r#""sub":"s","nbf":1005"#), Ok(()));
        assert_eq!(
            verify(&rules, r#""sub":"s","nbf":1006"#),
            Err("not_yet_valid")
        );
        assert_eq!(verify(&rules, r#""sub":"s","iat":1005"#), Ok(()));
        assert_eq!(
            verify(&rules, r#""sub":"s","iat":1006"#),
            Err("issued_in_the_future")
        );
    }

    #[test]
    fn accepts_only_bearer_tokens() {
        let rules = Rules::default();
        for valid in ["Bearer", "bearer", "BEARER", "access_token", "Access_Token"] {
            let members = format!(r#""sub":"s","token_type":"{valid}""#);
            assert_eq!(verify(&rules, &members), Ok(()), "{valid}");
        }
        for invalid in ["", "DPoP", "refresh_token", "id_token", "mac", "bearer "] {
            let members = format!(r#""sub":"s","token_type":"{invalid}""#);
            assert_eq!(verify(&rules, &members), Err("token_type"), "{invalid}");
        }
        let bound = r#""sub":"s","token_type":"Bearer","cnf":{"x5t#S256":"x"}"#;
        assert_eq!(verify(&rules, bound), Err("bound_to_a_key"));
    }

    #[test]
    fn requires_the_configured_audience() {
        let rules = Rules {
            audience: Some("api".into()),
            ..Rules::default()
        };
        for valid in [r#""api""#, r#"["other","api"]"#] {
            assert_eq!(
                verify(&rules, &format!(r#""sub":"s","aud":{valid}"#)),
                Ok(())
            );
        }
        for invalid in [r#""apis""#, r#"["API"]"#, "[]", "null", r#""other api""#] {
            let members = format!(r#""sub":"s","aud":{invalid}"#);
            assert_eq!(verify(&rules, &members), Err("audience"), "{invalid}");
        }
        assert_eq!(verify(&rules, r#""sub":"s""#), Err("audience"));
        assert_eq!(
            verify(&Rules::default(), r#""sub":"s","aud":"any""#),
            Ok(())
        );
    }

    #[test]
    fn checks_configured_and_required_issuers() {
        let mut rules = Rules {
            issuer: Some("https://as".into()),
            ..Rules::default()
        };
        assert_eq!(verify(&rules, r#""sub":"s","iss":"https://as""#), Ok(()));
        assert_eq!(verify(&rules, r#""sub":"s""#), Ok(()));
        for invalid in ["https://as/", "https://AS", "x", ""] {
            let members = format!(r#""sub":"s","iss":"{invalid}""#);
            assert_eq!(verify(&rules, &members), Err("issuer"), "{invalid}");
        }
        rules.requires_issuer = true;
        assert_eq!(verify(&rules, r#""sub":"s""#), Err("issuer"));
        rules.issuer = None;
        assert_eq!(verify(&rules, r#""sub":"s","iss":"any""#), Ok(()));
        for invalid in [r#""sub":"s""#, r#""sub":"s","iss":"""#] {
            assert_eq!(verify(&rules, invalid), Err("issuer"), "{invalid}");
        }
    }

    #[test]
    fn requires_a_subject_unless_allowed() {
        let mut rules = Rules::default();
        assert_eq!(verify(&rules, r#""scope":"a""#), Err("no_subject"));
        assert_eq!(
            verify(&rules, r#""sub":"","client_id":"""#),
            Err("no_subject")
        );
        assert_eq!(verify(&rules, r#""client_id":"c""#), Ok(()));
        rules.allows_missing_subject = true;
        assert_eq!(verify(&rules, r#""scope":"a""#), Ok(()));
    }

    #[test]
    fn builds_the_record_from_the_claims() {
        let digest = TokenDigest::of("t");
        let members =
            r#""sub":"alice","client_id":"c","scope":"a:b c","exp":2000,"nbf":10,"iat":6"#;
        let record = Rules::default().record(&claims(members), digest);
        assert_eq!(record.digest(), &digest);
        assert_eq!((record.name(), record.subject()), ("c", Some("alice")));
        assert_eq!(record.scopes().iter().collect::<Vec<_>>(), ["a:b", "c"]);
        assert!(record.roles().is_empty());
        assert_eq!(record.expires_at(), Some(at(2000)));
        assert_eq!(record.not_before(), Some(at(5)));
        assert_eq!(record.created_at(), Some(at(6)));
    }

    #[test]
    fn reads_the_owner_and_ignores_other_types() {
        let rules = Rules::default();
        for (member, owner) in [
            (r#","owner":"user:1""#, Some("user:1")),
            (r#","owner":{"id":"user:1"}"#, None),
            (r#","owner":null"#, None),
            ("", None),
        ] {
            let claims = claims(&format!(r#""sub":"s"{member}"#));
            let record = rules.record(&claims, TokenDigest::of("t"));
            assert_eq!(record.owner(), owner, "{member}");
        }
    }

    #[test]
    fn keeps_our_token_id_and_omits_it_as_subject() {
        let own = r#""jti":"7Hq2mX9bTe","client_id":"7Hq2mX9bTe","name":"ci""#;
        let record = Rules::default().record(&claims(own), TokenDigest::of("t"));
        assert_eq!(record.id().to_string(), "7Hq2mX9bTe");
        assert_eq!((record.name(), record.subject()), ("ci", None));
    }

    #[test]
    fn derives_the_id_from_issuer_and_jti_or_the_digest() {
        let id = |members: &str, token| {
            let record = Rules::default().record(&claims(members), TokenDigest::of(token));
            record.id()
        };
        let named = r#""sub":"s","iss":"i","jti":"a long name""#;
        assert_eq!(id(named, "t"), id(named, "u"));
        assert_ne!(
            id(named, "t"),
            id(r#""sub":"s","iss":"j","jti":"a long name""#, "t")
        );
        assert_eq!(id(r#""sub":"s""#, "t"), id(r#""sub":"r""#, "t"));
        assert_ne!(id(r#""sub":"s""#, "t"), id(r#""sub":"s""#, "u"));
    }

    #[test]
    fn scope_mapping_renames_and_drops_scopes() {
        let rules = Rules {
            scope_mapping: Some(Arc::new(|scope| scope.strip_prefix("api/").map(Into::into))),
            ..Rules::default()
        };
        let record = rules.record(
            &claims(r#""sub":"s","scope":"api/read * openid""#),
            TokenDigest::of("t"),
        );
        assert_eq!(record.scopes().iter().collect::<Vec<_>>(), ["read"]);
    }
}
