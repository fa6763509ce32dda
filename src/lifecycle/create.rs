use super::fields::Fields;
use super::new_token::{IDEMPOTENCY_KEY_FORM, is_idempotency_key};
use super::rights::Rights;
use super::{Actor, FieldProblem, IssuedToken, LifecycleError, NewToken, ServiceTokens};
use crate::audit::AuditAction;
use crate::digest::TokenDigest;
use crate::registry::RegistryError;
use crate::store::{StoreError, TokenRecord};
use crate::token::{MintedToken, TokenId};

const DOMAIN: &str = "tower-service-token/idempotency-key/2";

/// The number of attempts to create a token whose existing record is purged at the same time.
const MAX_ATTEMPTS: usize = 100;

/// Checks the form of an idempotency key.
pub(super) fn check_idempotency_key(key: &str) -> Result<(), FieldProblem> {
    if is_idempotency_key(key) {
        return Ok(());
    }
    Err(FieldProblem::new("/idempotency_key", IDEMPOTENCY_KEY_FORM))
}

/// Returns the id of the token that this actor creates under this key, on every node. `collisions` is
/// the number of ids of the key whose number is in use.
///
/// The hash is unambiguous, because a key contains no zero byte.
fn token_id(actor: &Actor, key: &str, collisions: usize) -> TokenId {
    let domain = match collisions {
        0 => DOMAIN.to_owned(),
        collisions => format!("{DOMAIN}/{collisions}"),
    };
    let actor = actor.key();
    let hash = TokenDigest::of(&[&*domain, &actor, key].join("\0"));
    let (number, _) = hash.as_bytes().split_first_chunk().expect("32 bytes");
    TokenId::from_hash(u64::from_be_bytes(*number))
}

impl ServiceTokens {
    /// Creates a token. Only the returned value contains the secret.
    ///
    /// ```
    /// use tower_service_token::lifecycle::NewToken;
    /// use tower_service_token::{MemoryStore, ServiceTokens};
    ///
    /// # futures::executor::block_on(async {
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let issued = tokens
    ///     .create(NewToken::new("ci").with_roles(["deployer"]).with_expiry("30d".parse()?))
    ///     .await?;
    /// println!("new token: {}", issued.expose_secret());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).expect("no step fails");
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if a rule or the policy is broken, if the actor may not create such a token,
    /// if a token was created with the same [idempotency key](NewToken::with_idempotency_key), if
    /// there are no random bytes, or if the store is unavailable.
    pub async fn create(&self, new: NewToken) -> Result<IssuedToken, LifecycleError> {
        let rights = self.rights(false).await?;
        if let Some(key) = new.idempotency_key().map(str::to_owned) {
            check_idempotency_key(&key)?;
            return self.create_once(new, &key, &rights).await;
        }
        let fields = self.new_fields(new, &rights);
        fields.check(None, self.policy())?;
        loop {
            match self.issue(&fields, self.format.mint()?, &rights).await {
                // The random id or its number is in use. With a million tokens, about one creation in
                // 10⁷ gets one.
                Err(RegistryError::DuplicateId | RegistryError::DuplicateNumber) => {}
                issued => return Ok(issued?),
            }
        }
    }

    /// Imports a token that was minted elsewhere, by the digest of its whole text. The token stays
    /// valid for its holder.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`create`](Self::create), and one if a token with this digest exists.
    pub async fn import(
        &self,
        new: NewToken,
        digest: TokenDigest,
    ) -> Result<TokenRecord, LifecycleError> {
        let rights = self.rights(false).await?;
        let fields = self.new_fields(new, &rights);
        fields.check(None, self.policy())?;
        loop {
            // Only the id is used; the secret is dropped.
            let record = TokenRecord::new(self.format.mint()?.id(), digest);
            let action = AuditAction::Imported;
            match self.insert(&fields, record, action, &rights).await {
                Err(RegistryError::DuplicateId | RegistryError::DuplicateNumber) => {}
                inserted => return Ok(inserted?),
            }
        }
    }

    /// Creates the token of this key, or returns an error if it was created before.
    async fn create_once(
        &self,
        new: NewToken,
        key: &str,
        rights: &Rights,
    ) -> Result<IssuedToken, LifecycleError> {
        let fields = self.new_fields(new, rights);
        // A replay changes nothing, but returns the record.
        rights.check_accepted()?;
        fields.check_counts(None)?;
        let mut collisions = 0;
        let mut id = token_id(&self.actor, key, collisions);
        // Before the other rules: fields that were valid at the first call may be invalid now, such
        // as an expiry that has passed.
        self.reject_replay(id, &fields).await?;
        fields.check(None, self.policy())?;
        for _ in 0..MAX_ATTEMPTS {
            let secret = self.format.mint_with_id(id)?;
            match self.issue(&fields, secret, rights).await {
                Err(RegistryError::DuplicateId) => self.reject_replay(id, &fields).await?,
                Err(RegistryError::DuplicateNumber) => {
                    collisions += 1;
                    id = token_id(&self.actor, key, collisions);
                    self.reject_replay(id, &fields).await?;
                }
                // Perhaps by this token, which another call with the same key created first.
                Err(error @ (RegistryError::NameTaken | RegistryError::TooManyTokens)) => {
                    self.reject_replay(id, &fields).await?;
                    return Err(error.into());
                }
                issued => return Ok(issued?),
            }
        }
        Err(
            StoreError::unavailable("too many concurrent creations and deletions of this token")
                .into(),
        )
    }

    /// Returns an error if a token with this id exists.
    async fn reject_replay(&self, id: TokenId, fields: &Fields) -> Result<(), LifecycleError> {
        match self.registry.get(id).await? {
            None => Ok(()),
            Some(record) if self.is_visible(&record) && self.is_replay(&record, fields) => {
                Err(LifecycleError::AlreadyCreated(Box::new(record)))
            }
            Some(_) => Err(LifecycleError::IdempotencyKeyReused),
        }
    }

    /// Returns whether this actor created the record with the same fields. Fields are not compared
    /// once the record was changed, because the original ones are unknown then.
    fn is_replay(&self, record: &TokenRecord, fields: &Fields) -> bool {
        record.created_by() == Some(&*self.actor.name())
            && (record.revision() > 1 || fields.matches_record(record))
    }

    /// Returns the fields of a new token. One without an expiry expires with the actor's token, and one
    /// without an owner gets that of the actor.
    fn new_fields(&self, new: NewToken, rights: &Rights) -> Fields {
        let has_expiry = new.expiry.is_some();
        let mut fields = Fields::from_new_token(new, self.policy(), self.clock.now());
        if !has_expiry {
            fields.limit_expiry(rights.latest_expiry());
        }
        fields.default_owner(rights.owner());
        fields.confine_to(rights.owner());
        fields
    }

    /// Inserts a token with this secret.
    async fn issue(
        &self,
        fields: &Fields,
        secret: MintedToken,
        rights: &Rights,
    ) -> Result<IssuedToken, RegistryError> {
        let record = TokenRecord::from(&secret).with_hint(&*self.format.hint(secret.id()));
        let action = AuditAction::Created;
        let record = self.insert(fields, record, action, rights).await?;
        Ok(IssuedToken {
            secret,
            record,
            effective_within: self.registry.effective_within(),
        })
    }

    async fn insert(
        &self,
        fields: &Fields,
        bare: TokenRecord,
        action: AuditAction,
        rights: &Rights,
    ) -> Result<TokenRecord, RegistryError> {
        let now = self.clock.now();
        let actor = self.actor.name();
        let record = fields
            .apply_to(bare.clone())
            .with_created_at(now)
            .with_created_by(actor.as_str())
            .with_updated_at(now)
            .with_revision(1);
        rights.check(None, &record)?;
        let write = self
            .write(action, &bare, record.clone(), rights)
            .with_max_tokens(self.policy().max_tokens)
            .with_max_tokens_of_owner(self.policy().max_tokens_per_owner);
        self.registry.insert(&write).await?;
        self.sink.record(write.event());
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(actor: &str, key: &str) -> String {
        token_id(&Actor::operator(actor), key, 0).to_string()
    }

    #[test]
    fn idempotency_key_maps_to_stable_token_id_per_actor() {
        assert_eq!(id("ci", "a"), "aGb4SnBUbX");
        assert_ne!(id("ci", "a"), id("ci", "b"));
        assert_ne!(id("ci", "a"), id("cd", "a"));
        assert_ne!(id("ci", "a"), id("ci\0a", "a"));
        assert_ne!(id("c", "ia"), id("ci", "a"));
    }

    #[test]
    fn accepts_idempotency_keys_of_1_to_255_visible_ascii_characters() {
        let longest = "~".repeat(255);
        for good in ["!", "\"", "8e03978e-40d5-43dd-bc93-6894a57f9324", &longest] {
            assert!(check_idempotency_key(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(256);
        for bad in ["", " ", "a b", "a\n", "a\0", "\u{7f}", "é", &too_long] {
            assert!(check_idempotency_key(bad).is_err(), "{bad}");
        }
    }
}
