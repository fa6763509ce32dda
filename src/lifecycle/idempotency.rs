use super::fields::Fields;
use super::rights::Rights;
use super::{Actor, FieldProblem, IssuedToken, LifecycleError, NewToken, ServiceTokens};
use crate::digest::TokenDigest;
use crate::store::{RegistryError, StoreError, TokenRecord};
use crate::token::TokenId;

const DOMAIN: &str = "tower-service-token/idempotency-key/2";
const MAX_KEY: usize = 255;

/// How often a creation begins anew because the token it met was purged at that moment.
const MAX_ATTEMPTS: usize = 100;

/// The id of the token that this actor creates under this key, on every node.
///
/// The last zero byte ends the actor's name, as no key has one.
pub(super) fn token_id(actor: &Actor, key: &str) -> Result<TokenId, FieldProblem> {
    let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if !(1..=MAX_KEY).contains(&key.len()) || !is_visible {
        let detail = format!("1 to {MAX_KEY} visible ASCII characters");
        return Err(FieldProblem::new("/idempotency_key", detail));
    }
    let actor = actor.name();
    let hash = TokenDigest::of(&[DOMAIN, &actor, key].join("\0"));
    let (number, _) = hash.as_bytes().split_first_chunk().expect("32 bytes");
    Ok(TokenId::from_hash(u64::from_be_bytes(*number)))
}

impl ServiceTokens {
    /// Creates the token with this id, or tells that it was created before.
    pub(super) async fn create_once(
        &self,
        new: NewToken,
        id: TokenId,
        rights: &Rights,
    ) -> Result<IssuedToken, LifecycleError> {
        let mut problems = Vec::new();
        let fields = self.fields_for(new, rights, &mut problems);
        // A replay changes nothing, but returns the record.
        rights.check_accepted()?;
        fields.check_counts()?;
        // First of all: what was good then may break a rule by now, be it an expiry that passed.
        self.reject_replay(id, &fields).await?;
        self.validate(&fields, problems)?;
        for _ in 0..MAX_ATTEMPTS {
            let secret = self.format.mint_with_id(id)?;
            let error = match self.issue(&fields, secret, rights).await {
                Ok(issued) => return Ok(issued),
                Err(error) => error,
            };
            match error {
                RegistryError::DuplicateId => self.reject_replay(id, &fields).await?,
                // By this very token, if another call with the key was quicker.
                RegistryError::NameTaken | RegistryError::TooManyTokens => {
                    self.reject_replay(id, &fields).await?;
                    return Err(error.into());
                }
                error => return Err(error.into()),
            }
        }
        Err(
            StoreError::unavailable("too many concurrent creations and deletions of this token")
                .into(),
        )
    }

    /// Refuses to create a token that is there already.
    async fn reject_replay(&self, id: TokenId, fields: &Fields) -> Result<(), LifecycleError> {
        match self.registry.get(id).await? {
            None => Ok(()),
            Some(record) if self.is_replay(&record, fields) => {
                Err(LifecycleError::AlreadyCreated(Box::new(record)))
            }
            Some(_) => Err(LifecycleError::IdempotencyKeyReused),
        }
    }

    /// Whether this actor created the record by asking for the same. What a changed one was
    /// created as is not known.
    fn is_replay(&self, record: &TokenRecord, fields: &Fields) -> bool {
        record.created_by() == Some(&*self.actor.name())
            && (record.revision() > 1 || fields.match_record(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(actor: &str, key: &str) -> Option<String> {
        let id = token_id(&Actor::operator(actor), key).ok()?;
        Some(id.to_string())
    }

    #[test]
    fn idempotency_key_maps_to_stable_token_id_per_actor() {
        assert_eq!(id("ci", "a").as_deref(), Some("aGb4SnBUbX"));
        assert_ne!(id("ci", "a"), id("ci", "b"));
        assert_ne!(id("ci", "a"), id("cd", "a"));
        assert_ne!(id("ci", "a"), id("ci\0a", "a"));
        assert_ne!(id("c", "ia"), id("ci", "a"));
    }

    #[test]
    fn accepts_idempotency_keys_of_1_to_255_visible_ascii_characters() {
        let longest = "~".repeat(255);
        for good in ["!", "\"", "8e03978e-40d5-43dd-bc93-6894a57f9324", &longest] {
            assert!(id("ci", good).is_some(), "{good}");
        }
        let too_long = "a".repeat(256);
        for bad in ["", " ", "a b", "a\n", "a\0", "\u{7f}", "é", &too_long] {
            assert_eq!(id("ci", bad), None, "{bad}");
        }
    }
}
