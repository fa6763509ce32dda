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
