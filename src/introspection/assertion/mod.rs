pub(super) mod key;

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::key::SigningKey;
use super::config_error::IntrospectionConfigError;
use super::error::RequestError;

/// A private key that signs client assertions: `private_key_jwt` of RFC 7523, section 3.
///
/// 1. Every request has a JWT of its own with a new `jti`, because servers reject one that they have
///    seen.
/// 2. `iss` and `sub` are the client id. `aud` is the [audience](Self::with_audience), by default the
///    issuer. `exp` is `iat` plus the [lifetime](Self::with_lifetime).
/// 3. The key is an unencrypted PKCS#8 PEM (`BEGIN PRIVATE KEY`). RSA keys may also be PKCS#1
///    (`BEGIN RSA PRIVATE KEY`).
/// 4. `Debug` shows the client id, the algorithm and the key id.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use base64::Engine;
/// # let random = ring::rand::SystemRandom::new();
/// # let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
/// # let der = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
/// # let der = base64::engine::general_purpose::STANDARD.encode(der);
/// # let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
/// use tower_service_token::introspection::{ClientAuth, PrivateKeyJwt};
///
/// // openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
/// let key = PrivateKeyJwt::es256("orders", &pem)?.with_key_id("2026-11");
/// let auth = ClientAuth::private_key_jwt(key);
/// # Ok(())
/// # }
/// ```
pub struct PrivateKeyJwt {
    client_id: String,
    key: SigningKey,
    key_id: Option<String>,
    audience: Option<String>,
    lifetime: Duration,
}

const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
const MIN_LIFETIME: Duration = Duration::from_secs(1);
const MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);

impl PrivateKeyJwt {
    /// Creates a key that signs with ES256: ECDSA with P-256 and SHA-256.
    ///
    /// # Errors
    ///
    /// Returns an error if the PEM is malformed or its key does not fit the algorithm.
    pub fn es256(
        client_id: impl Into<String>,
        pkcs8_pem: &str,
    ) -> Result<Self, IntrospectionConfigError> {
        let key = SigningKey::es256(pkcs8_pem)?;
        Ok(Self::new(client_id.into(), key))
    }

    /// Creates a key that signs with RS256: RSA of 2048 to 4096 bits, PKCS#1 v1.5, with SHA-256.
    ///
    /// # Errors
    ///
    /// Returns an error if the PEM is malformed or its key does not fit the algorithm.
    pub fn rs256(
        client_id: impl Into<String>,
        pkcs8_pem: &str,
    ) -> Result<Self, IntrospectionConfigError> {
        let key = SigningKey::rs256(pkcs8_pem)?;
        Ok(Self::new(client_id.into(), key))
    }

    /// Sets the `kid` of the assertions, for a server that has several keys of this client. Unset by
    /// default.
    pub fn with_key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// Sets the audience of the assertions. The default is the issuer, configured or discovered.
    ///
    /// Some servers require the URL of their token or introspection endpoint instead.
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Sets how long an assertion is valid, rounded down to seconds. The default is 60 s, the minimum
    /// 1 s, the maximum 1 h.
    ///
    /// The server rejects assertions if its clock differs by more than this.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn check(&self, issuer: Option<&str>) -> Result<(), IntrospectionConfigError> {
        if self.client_id.is_empty() {
            return Err(IntrospectionConfigError::EmptyClientId);
        }
        if !(MIN_LIFETIME..=MAX_LIFETIME).contains(&self.lifetime) {
            return Err(IntrospectionConfigError::InvalidAssertionLifetime);
        }
        match self.audience.as_deref().or(issuer) {
            None | Some("") => Err(IntrospectionConfigError::MissingAssertionAudience),
            Some(_) => Ok(()),
        }
    }

    /// Creates an assertion.
    pub(super) fn sign(
        &self,
        default_audience: Option<&str>,
        now: SystemTime,
    ) -> Result<Zeroizing<String>, RequestError> {
        let audience = self.audience.as_deref().or(default_audience);
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| RequestError::Signing)?;
        let mut header = json!({ "alg": self.key.algorithm(), "typ": "JWT" });
        if let Some(key_id) = &self.key_id {
            header["kid"] = key_id.as_str().into();
        }
        let claims = json!({
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience.ok_or(RequestError::Signing)?,
            "jti": hex::encode(random),
            "iat": now,
            "exp": now.saturating_add(self.lifetime.as_secs()),
        });
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(signed.as_bytes())?;
        let mut assertion = Zeroizing::new(signed);
        // Growing may leave a copy, but one without a signature.
        assertion.push('.');
        assertion.push_str(&Zeroizing::new(URL_SAFE_NO_PAD.encode(signature)));
        Ok(assertion)
    }

    fn new(client_id: String, key: SigningKey) -> Self {
        Self {
            client_id,
            key,
            key_id: None,
            audience: None,
            lifetime: DEFAULT_LIFETIME,
        }
    }
}

impl fmt::Debug for PrivateKeyJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKeyJwt")
            .field("client_id", &self.client_id)
            .field("algorithm", &self.key.algorithm())
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };
    use rsa::pkcs1::EncodeRsaPrivateKey;
    use rsa::pkcs8::{EncodePrivateKey, LineEnding};

    use super::key::tests::{p256_pem, rsa_key};
    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn es256() -> PrivateKeyJwt {
        PrivateKeyJwt::es256("orders", &p256_pem()).unwrap()
    }

    fn sign(key: &PrivateKeyJwt, audience: Option<&str>) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        key.sign(audience, now).unwrap().to_string()
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// Returns the header and the claims of an assertion that `key` signed.
    fn verified(key: &PrivateKeyJwt, assertion: &str) -> (Value, Value) {
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (algorithm, public): (&dyn VerificationAlgorithm, _) = match &key.key {
            SigningKey::Es256(key) => (&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref()),
            SigningKey::Rs256(key) => (&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref()),
        };
        UnparsedPublicKey::new(algorithm, public)
            .verify(signed.as_bytes(), &signature)
            .expect("a valid signature");
        let (header, claims) = signed.split_once('.').unwrap();
        (decoded(header), decoded(claims))
    }

    #[test]
    fn an_es256_assertion_has_the_claims_of_rfc_7523() {
        let key = es256();
        let assertion = sign(&key, Some("https://as.example"));
        let (header, claims) = verified(&key, &assertion);
        assert_eq!(header, json!({"alg": "ES256", "typ": "JWT"}));
        let id = claims["jti"].as_str().unwrap();
        assert_eq!(id.len(), 32);
        let expected = json!({
            "iss": "orders", "sub": "orders", "aud": "https://as.example",
            "jti": id, "iat": NOW, "exp": NOW + 60,
        });
        assert_eq!(claims, expected);
    }

    #[test]
    fn rs256_accepts_pkcs8_and_pkcs1_keys() {
        let key = rsa_key(2048);
        let pkcs8 = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let pkcs1 = key.to_pkcs1_pem(LineEnding::LF).unwrap();
        assert!(pkcs1.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
        for pem in [pkcs8, pkcs1] {
            let key = PrivateKeyJwt::rs256("orders", &pem).unwrap();
            let key = key
                .with_key_id("k1")
                .with_audience("https://as.example/token");
            let key = key.with_lifetime(Duration::from_secs(5));
            let assertion = sign(&key, Some("https://as.example"));
            let (header, claims) = verified(&key, &assertion);
            assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
            assert_eq!(claims["aud"], "https://as.example/token");
            assert_eq!(claims["exp"], NOW + 5);
        }
    }

    #[test]
    fn assertion_ids_are_unique() {
        let key = es256();
        let ids = (0..100).map(|_| {
            let (_, claims) = verified(&key, &sign(&key, Some("a")));
            claims["jti"].as_str().unwrap().to_owned()
        });
        assert_eq!(ids.collect::<HashSet<_>>().len(), 100);
    }

    #[test]
    fn rejects_assertions_without_client_id_audience_or_valid_lifetime() {
        let missing = Err(IntrospectionConfigError::MissingAssertionAudience);
        assert_eq!(es256().check(None), missing);
        assert_eq!(es256().check(Some("")), missing);
        assert_eq!(es256().with_audience("").check(Some("i")), missing);
        assert_eq!(es256().check(Some("i")), Ok(()));
        assert_eq!(es256().with_audience("a").check(None), Ok(()));
        assert!(es256().sign(None, SystemTime::UNIX_EPOCH).is_err());
        for lifetime in [
            Duration::ZERO,
            Duration::from_millis(999),
            Duration::from_secs(3_601),
        ] {
            let key = es256().with_lifetime(lifetime);
            let invalid = Err(IntrospectionConfigError::InvalidAssertionLifetime);
            assert_eq!(key.check(Some("i")), invalid);
        }
        let unnamed = PrivateKeyJwt::es256("", &p256_pem()).unwrap();
        assert_eq!(
            unnamed.check(Some("i")),
            Err(IntrospectionConfigError::EmptyClientId)
        );
    }

    #[test]
    fn debug_redacts_the_key() {
        assert_eq!(
            format!("{:?}", es256().with_key_id("k1")),
            r#"PrivateKeyJwt { client_id: "orders", algorithm: "ES256", key_id: Some("k1"), .. }"#
        );
    }
}
