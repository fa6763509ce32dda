use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use zeroize::{Zeroize, Zeroizing};

use super::config_error::IntrospectionConfigError;
use super::request::RequestError;

/// A private key that signs who the client is: `private_key_jwt` of RFC 7523, section 3.
///
/// 1. Every attempt has a JWT of its own, with a new `jti`: servers refuse one they have seen.
/// 2. `iss` and `sub` are the client id; `aud` is the [audience](Self::with_audience), else the
///    issuer; `exp` is `iat` plus the [lifetime](Self::with_lifetime).
/// 3. The key is read from a PEM of unencrypted PKCS#8 (`BEGIN PRIVATE KEY`); RSA also from
///    PKCS#1 (`BEGIN RSA PRIVATE KEY`).
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
/// use tower_service_token::store::{ClientAuth, PrivateKeyJwt};
///
/// // openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
/// let key = PrivateKeyJwt::es256("orders", &pem)?.with_key_id("2026-11");
/// let auth = ClientAuth::private_key_jwt(key);
/// # Ok(())
/// # }
/// ```
pub struct PrivateKeyJwt {
    client_id: String,
    key: Key,
    key_id: Option<String>,
    audience: Option<String>,
    lifetime: Duration,
}

enum Key {
    Es256(EcdsaKeyPair),
    // Four times the size of the other.
    Rs256(Box<RsaKeyPair>),
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

const LIFETIME: Duration = Duration::from_secs(60);
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);
const LONGEST_LIFETIME: Duration = Duration::from_secs(60 * 60);

impl PrivateKeyJwt {
    /// Signs by ES256: ECDSA with P-256 and SHA-256.
    ///
    /// # Errors
    ///
    /// The PEM holds no such key that can be read.
    pub fn es256(
        client_id: impl Into<String>,
        pkcs8_pem: &str,
    ) -> Result<Self, IntrospectionConfigError> {
        let key = with_key(pkcs8_pem, |key| match key {
            PrivateKeyDer::Pkcs8(der) => {
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let der = der.secret_pkcs8_der();
                EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new())
                    .map_err(|_| IntrospectionConfigError::UnsuitableKey)
            }
            PrivateKeyDer::Pkcs1(_) => Err(IntrospectionConfigError::UnsuitableKey),
            _ => Err(IntrospectionConfigError::InvalidKey),
        })?;
        Ok(Self::new(client_id.into(), Key::Es256(key)))
    }

    /// Signs by RS256: RSA of 2048 bits or more, PKCS#1 v1.5, with SHA-256.
    ///
    /// # Errors
    ///
    /// The PEM holds no such key that can be read.
    pub fn rs256(
        client_id: impl Into<String>,
        pkcs8_pem: &str,
    ) -> Result<Self, IntrospectionConfigError> {
        let key = with_key(pkcs8_pem, |key| {
            let read = match key {
                PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
                PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                PrivateKeyDer::Sec1(_) => return Err(IntrospectionConfigError::UnsuitableKey),
                _ => return Err(IntrospectionConfigError::InvalidKey),
            };
            read.map_err(|_| IntrospectionConfigError::UnsuitableKey)
        })?;
        Ok(Self::new(client_id.into(), Key::Rs256(Box::new(key))))
    }

    /// Names the key to a server that knows several of this client's. Default: no `kid`.
    pub fn with_key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// Whom the assertion is for. Default: the issuer, configured or discovered.
    ///
    /// Some servers want the URL of their token or introspection endpoint here instead.
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// How long an assertion is good for, in whole seconds, rounded down. Default: 60 s; at least
    /// 1 s, at most an hour.
    ///
    /// Clocks apart by more than this make the server refuse it.
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
        if !(SHORTEST_LIFETIME..=LONGEST_LIFETIME).contains(&self.lifetime) {
            return Err(IntrospectionConfigError::InvalidAssertionLifetime);
        }
        match self.audience.as_deref().or(issuer) {
            None | Some("") => Err(IntrospectionConfigError::MissingAssertionAudience),
            Some(_) => Ok(()),
        }
    }

    /// A new assertion.
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
        let header = Header {
            alg: self.key.algorithm(),
            typ: "JWT",
            kid: self.key_id.as_deref(),
        };
        let claims = Claims {
            iss: &self.client_id,
            sub: &self.client_id,
            aud: audience.ok_or(RequestError::Signing)?,
            jti: hex::encode(random),
            iat: now,
            exp: now.saturating_add(self.lifetime.as_secs()),
        };
        let signed = format!("{}.{}", part(&header)?, part(&claims)?);
        let signature = self.key.sign(signed.as_bytes())?;
        let mut assertion = Zeroizing::new(signed);
        // Wiped as a whole: growing would leave a copy, yet one without a signature.
        assertion.push('.');
        assertion.push_str(&Zeroizing::new(URL_SAFE_NO_PAD.encode(signature)));
        Ok(assertion)
    }

    fn new(client_id: String, key: Key) -> Self {
        Self {
            client_id,
            key,
            key_id: None,
            audience: None,
            lifetime: LIFETIME,
        }
    }
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RequestError> {
        let random = SystemRandom::new();
        let signed = match self {
            Self::Es256(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec()),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map(|()| signature)
            }
        };
        signed.map_err(|_| RequestError::Signing)
    }
}

/// Lends `read` the first private key of `pem`, which is wiped afterwards.
fn with_key<T>(
    pem: &str,
    read: impl FnOnce(&PrivateKeyDer<'static>) -> Result<T, IntrospectionConfigError>,
) -> Result<T, IntrospectionConfigError> {
    let mut key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| IntrospectionConfigError::InvalidKey)?;
    let made = read(&key);
    key.zeroize();
    made
}

fn part(part: &impl Serialize) -> Result<String, RequestError> {
    let json = serde_json::to_vec(part).map_err(|_| RequestError::Signing)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
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
pub(super) mod tests {
    use std::collections::HashSet;
    use std::process::Command;

    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaSigningAlgorithm, KeyPair,
        RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    };
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    fn ec_pem(algorithm: &'static EcdsaSigningAlgorithm) -> String {
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        pem("PRIVATE KEY", der.as_ref())
    }

    /// What the `openssl` command makes: ring makes neither RSA keys nor certificates.
    pub(in crate::store::introspection) fn openssl(arguments: &[&str]) -> String {
        let made = Command::new("openssl").args(arguments).output();
        let made = made.expect("this test needs the openssl command");
        assert!(made.status.success(), "{arguments:?}");
        String::from_utf8(made.stdout).unwrap()
    }

    fn rsa_pem(bits: u32) -> String {
        let bits = format!("rsa_keygen_bits:{bits}");
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits])
    }

    fn es256() -> PrivateKeyJwt {
        PrivateKeyJwt::es256("orders", &ec_pem(&ECDSA_P256_SHA256_FIXED_SIGNING)).unwrap()
    }

    fn sign(key: &PrivateKeyJwt, audience: Option<&str>) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        key.sign(audience, now).unwrap().to_string()
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// Header and claims of an assertion that `key` signed.
    fn verified(key: &PrivateKeyJwt, assertion: &str) -> (Value, Value) {
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        match &key.key {
            Key::Es256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref())
                    .verify(signed.as_bytes(), &signature)
            }
            Key::Rs256(key) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
                    .verify(signed.as_bytes(), &signature)
            }
        }
        .expect("a good signature");
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
    fn an_rs256_assertion_is_signed_by_a_key_of_either_format() {
        let pkcs8 = rsa_pem(2048);
        let path = std::env::temp_dir().join(format!("assertion-{}.pem", std::process::id()));
        std::fs::write(&path, &pkcs8).unwrap();
        let pkcs1 = openssl(&["rsa", "-traditional", "-in", path.to_str().unwrap()]);
        std::fs::remove_file(path).unwrap();
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
    fn no_two_assertions_have_the_same_id() {
        let key = es256();
        let ids = (0..100).map(|_| {
            let (_, claims) = verified(&key, &sign(&key, Some("a")));
            claims["jti"].as_str().unwrap().to_owned()
        });
        assert_eq!(ids.collect::<HashSet<_>>().len(), 100);
    }

    #[test]
    fn a_key_of_another_kind_is_unsuitable() {
        let unsuitable = Some(IntrospectionConfigError::UnsuitableKey);
        let p256 = ec_pem(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let p384 = ec_pem(&ECDSA_P384_SHA384_FIXED_SIGNING);
        assert_eq!(PrivateKeyJwt::es256("c", &p384).err(), unsuitable);
        assert_eq!(PrivateKeyJwt::rs256("c", &p256).err(), unsuitable);
        let short = rsa_pem(1024);
        assert_eq!(PrivateKeyJwt::rs256("c", &short).err(), unsuitable);
        assert_eq!(PrivateKeyJwt::es256("c", &short).err(), unsuitable);
    }

    #[test]
    fn what_is_no_readable_key_is_invalid_and_the_error_says_how_to_make_one() {
        let invalid = IntrospectionConfigError::InvalidKey;
        let key = ec_pem(&ECDSA_P256_SHA256_FIXED_SIGNING);
        for pem in [
            "",
            "hush",
            &key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
            &key.replace("PRIVATE", "PUBLIC"),
            &key.replace("PRIVATE", "EC PRIVATE"),
            &key.replace("-----END", "!-----END"),
        ] {
            assert_eq!(PrivateKeyJwt::es256("c", pem).err(), Some(invalid), "{pem}");
        }
        assert!(
            invalid
                .to_string()
                .contains("openssl pkcs8 -topk8 -nocrypt")
        );
    }

    #[test]
    fn an_assertion_needs_a_client_an_audience_and_a_sensible_lifetime() {
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
        let unnamed = PrivateKeyJwt::es256("", &ec_pem(&ECDSA_P256_SHA256_FIXED_SIGNING)).unwrap();
        assert_eq!(
            unnamed.check(Some("i")),
            Err(IntrospectionConfigError::EmptyClientId)
        );
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert_eq!(
            format!("{:?}", es256().with_key_id("k1")),
            r#"PrivateKeyJwt { client_id: "orders", algorithm: "ES256", key_id: Some("k1"), .. }"#
        );
    }
}
