use futures_util::future::BoxFuture;

use super::fields::Fields;
use super::new_token::{IDEMPOTENCY_KEY_FORM, is_idempotency_key};
use super::page::is_visible;
use super::rights::Rights;
use super::{
    Actor, FieldProblem, IssuedToken, LifecycleError, NewToken, ServiceTokens, TokenPolicy,
};
use crate::audit::AuditAction;
use crate::digest::TokenDigest;
use crate::registry::RegistryError;
use crate::store::{StoreError, TokenRecord};
use crate::token::{MintedToken, TokenId};

const DOMAIN: &str = "tower-service-token/idempotency-key/2";

/// The number of attempts to create a token while its id is in use, or other changes come first.
const MAX_ATTEMPTS: usize = 100;

/// A token to create, and what its creation depends on.
struct Creation {
    fields: Fields,
    rights: Rights,
    policy: TokenPolicy,
}

impl Creation {
    /// Checks the rules for fields.
    fn check(&self) -> Result<(), LifecycleError> {
        self.fields.check(None, &self.policy)
    }
}

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
        self.mint(new).await
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
        let creation = self.prepare(new).await?;
        creation.check()?;
        for _ in 0..MAX_ATTEMPTS {
            // Only the id is used; the secret is dropped.
            let record = TokenRecord::new(self.format.mint()?.id(), digest);
            let inserted = self.insert(&creation, record, AuditAction::Imported);
            match inserted.await {
                Err(RegistryError::DuplicateId | RegistryError::DuplicateNumber) => {}
                inserted => return Ok(inserted?),
            }
        }
        Err(no_unused_id())
    }

    fn mint(&self, new: NewToken) -> BoxFuture<'_, Result<IssuedToken, LifecycleError>> {
        Box::pin(async move {
            if let Some(key) = new.idempotency_key().map(str::to_owned) {
                return self.create_once(new, &key).await;
            }
            let creation = self.prepare(new).await?;
            creation.check()?;
            for _ in 0..MAX_ATTEMPTS {
                let secret = self.format.mint()?;
                match self.issue(&creation, secret).await {
                    // The random id or its number is in use. With a million tokens, about one creation in
                    // 10⁷ gets one.
                    Err(RegistryError::DuplicateId | RegistryError::DuplicateNumber) => {}
                    issued => return Ok(issued?),
                }
            }
            Err(no_unused_id())
        })
    }

    /// Creates the token of this key, or returns an error if it was created before.
    async fn create_once(&self, new: NewToken, key: &str) -> Result<IssuedToken, LifecycleError> {
        let mut collisions = 0;
        for _ in 0..MAX_ATTEMPTS {
            let id = token_id(&self.actor, key, collisions);
            // Before the authority, which must be current when the token is written.
            let existing = self.registry.get(id).await;
            let creation = self.prepare(new.clone()).await?;
            check_idempotency_key(key)?;
            let fields = &creation.fields;
            fields.check_counts(None)?;
            // Before the other rules: fields that were valid at the first call may be invalid now, such
            // as an expiry that has passed.
            self.reject_replay(existing?, fields, &creation.rights)?;
            creation.check()?;
            let secret = self.format.mint_with_id(id)?;
            match self.issue(&creation, secret).await {
                Err(RegistryError::DuplicateId) => {}
                Err(RegistryError::DuplicateNumber) => collisions += 1,
                // Perhaps by this token, which another call with the same key created first.
                Err(error @ (RegistryError::NameTaken | RegistryError::TooManyTokens)) => {
                    let existing = self.registry.get(id).await?;
                    self.reject_replay(existing, fields, &creation.rights)?;
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

    /// Returns an error if the token exists.
    fn reject_replay(
        &self,
        existing: Option<TokenRecord>,
        fields: &Fields,
        rights: &Rights,
    ) -> Result<(), LifecycleError> {
        let is_known =
            |record| is_visible(record, rights.owner()) && self.is_replay(record, fields);
        match existing {
            None => Ok(()),
            Some(record) if is_known(&record) => {
                Err(LifecycleError::AlreadyCreated(Box::new(record)))
            }
            Some(_) => Err(LifecycleError::IdempotencyKeyReused),
        }
    }

    /// Returns whether this actor created the record with the same fields. Fields are not compared
    /// once the record was changed, because the original ones are unknown then.
    fn is_replay(&self, record: &TokenRecord, fields: &Fields) -> bool {
        self.actor.created(record) && (record.revision() > 1 || fields.matches_record(record))
    }

    /// Returns a new token with its fields, which are not yet checked. One without an expiry expires
    /// with the actor's token, and one without an owner gets that of the actor.
    fn prepare(&self, new: NewToken) -> BoxFuture<'_, Result<Creation, LifecycleError>> {
        Box::pin(async move {
            let permitted = self.authorize(false, |rights| {
                let owner = new.owner.as_deref().or(rights.owner());
                rights.check_owner(None, owner)?;
                Ok(owner.map(str::to_owned))
            });
            let (rights, policy) = permitted.await?;
            let policy = policy?;
            let has_expiry = new.expiry.is_some();
            let mut fields = Fields::from_new_token(new, &policy, self.clock.now());
            if !has_expiry {
                fields.limit_expiry(rights.latest_expiry());
            }
            fields.default_owner(rights.owner());
            Ok(Creation {
                fields,
                rights,
                policy,
            })
        })
    }

    /// Inserts a token with this secret.
    async fn issue(
        &self,
        creation: &Creation,
        secret: MintedToken,
    ) -> Result<IssuedToken, RegistryError> {
        let record = TokenRecord::from(&secret).with_hint(&*self.format.hint(secret.id()));
        let inserted = self.insert(creation, record, AuditAction::Created);
        let record = inserted.await?;
        Ok(IssuedToken {
            secret,
            record,
            effective_within: self.registry.effective_within(),
        })
    }

    async fn insert(
        &self,
        creation: &Creation,
        bare: TokenRecord,
        action: AuditAction,
    ) -> Result<TokenRecord, RegistryError> {
        let Creation {
            fields,
            rights,
            policy,
        } = creation;
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
            .reserve_name(policy.unique_names)
            .with_max_tokens(policy.max_tokens)
            .with_max_tokens_of_owner(policy.max_tokens_per_owner);
        self.registry.insert(&write).await?;
        self.sink.record(write.event());
        Ok(record)
    }
}

fn no_unused_id() -> LifecycleError {
    StoreError::unavailable("all ids that were tried, or their numbers, are in use").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Operator;

    fn id(actor: &str, key: &str) -> String {
        token_id(&Operator::new(actor).into(), key, 0).to_string()
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
