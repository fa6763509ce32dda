use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::introspection::config_error::IntrospectionConfigError;
use crate::introspection::error::RequestError;

/// A private key with its algorithm.
pub(super) enum SigningKey {
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<RsaKeyPair>),
}

impl SigningKey {
    pub(super) fn es256(pem: &str) -> Result<Self, IntrospectionConfigError> {
        let key = match &*private_key(pem)? {
            PrivateKeyDer::Pkcs8(der) => EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                der.secret_pkcs8_der(),
                &SystemRandom::new(),
            )
            .ok(),
            PrivateKeyDer::Pkcs1(_) => None,
            _ => return Err(IntrospectionConfigError::InvalidKey),
        };
        let key = key.ok_or(IntrospectionConfigError::UnsuitableKey)?;
        Ok(Self::Es256(Box::new(key)))
    }

    pub(super) fn rs256(pem: &str) -> Result<Self, IntrospectionConfigError> {
        let key = match &*private_key(pem)? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
            _ => None,
        };
        let key = key.ok_or(IntrospectionConfigError::UnsuitableKey)?;
        Ok(Self::Rs256(Box::new(key)))
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RequestError> {
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

/// Returns the first private key of a PEM. It is zeroed when dropped.
fn private_key(pem: &str) -> Result<Zeroizing<PrivateKeyDer<'static>>, IntrospectionConfigError> {
    // Some editors add a byte order mark.
    let pem = pem.strip_prefix('\u{feff}').unwrap_or(pem);
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    key.map(Zeroizing::new)
        .map_err(|_| IntrospectionConfigError::InvalidKey)
}

#[cfg(test)]
pub(in crate::introspection) mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaSigningAlgorithm};
    use rsa::RsaPrivateKey;
    use rsa::pkcs8::{EncodePrivateKey, LineEnding};
    use rsa::rand_core::OsRng;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    fn ec_pem(algorithm: &'static EcdsaSigningAlgorithm) -> String {
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        pem("PRIVATE KEY", der.as_ref())
    }

    pub(in crate::introspection) fn p256_pem() -> String {
        ec_pem(&ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub(in crate::introspection) fn rsa_key(bits: usize) -> RsaPrivateKey {
        RsaPrivateKey::new(&mut OsRng, bits).unwrap()
    }

    #[test]
    fn rejects_keys_of_the_wrong_algorithm_or_size() {
        let unsuitable = Some(IntrospectionConfigError::UnsuitableKey);
        let p256 = p256_pem();
        let p384 = ec_pem(&ECDSA_P384_SHA384_FIXED_SIGNING);
        assert_eq!(SigningKey::es256(&p384).err(), unsuitable);
        assert_eq!(SigningKey::rs256(&p256).err(), unsuitable);
        let short = rsa_key(1024).to_pkcs8_pem(LineEnding::LF).unwrap();
        assert_eq!(SigningKey::rs256(&short).err(), unsuitable);
        assert_eq!(SigningKey::es256(&short).err(), unsuitable);
    }

    #[test]
    fn rejects_malformed_keys_with_a_hint() {
        let invalid = IntrospectionConfigError::InvalidKey;
        let key = p256_pem();
        for pem in [
            "",
            "hush",
            &key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
            &key.replace("PRIVATE", "PUBLIC"),
            &key.replace("PRIVATE", "EC PRIVATE"),
            &key.replace("-----END", "!-----END"),
        ] {
            assert_eq!(SigningKey::es256(pem).err(), Some(invalid.clone()), "{pem}");
        }
        assert!(
            invalid
                .to_string()
                .contains("openssl pkcs8 -topk8 -nocrypt")
        );
    }
}
