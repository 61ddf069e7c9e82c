//! Public keys that vouch for tokens: a JSON Web Key Set (RFC 7517), and what its keys verify.
//!
//! RS256, ES256 (RFC 7518) and EdDSA by Ed25519 (RFC 8037). Pure. **Invariant:** a key verifies
//! what its type is for and nothing else, so no token can choose how it is looked at: there is no
//! `none`, and no secret that is shared.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// ALB: keys of one set.
const MOST_KEYS: usize = 10;
/// Of an RSA modulus, in bytes: what the verification takes.
const RSA: std::ops::RangeInclusive<usize> = 256..=1024;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(super) fn find(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// The point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A text that is no key set to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    #[error("is no JSON Web Key Set")]
    Shape,
    #[error("has more than 10 keys")]
    TooMany,
    #[error("has no key that verifies RS256, ES256 or EdDSA")]
    NoKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a set; keys of other kinds, or for other purposes, are passed over (RFC 7517,
    /// section 5).
    ///
    /// # Errors
    /// It is no set, is too large, or has no key of use.
    pub fn read(text: &[u8]) -> Result<Self, BadKeys> {
        let set: Set = serde_json::from_slice(text).map_err(|_| BadKeys::Shape)?;
        if set.keys.len() > MOST_KEYS {
            return Err(BadKeys::TooMany);
        }
        let keys =
            set.keys.into_iter().filter_map(|key| Key::read(serde_json::from_value(key).ok()?));
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() { Err(BadKeys::NoKey) } else { Ok(Self(keys)) }
    }

    /// Whether a token that names `id` may be signed by one of these.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        id.is_none() || self.0.iter().any(|key| key.fits(id))
    }

    /// Whether one of the keys that the token may mean has signed `message`.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let mut candidates = self.0.iter().filter(|key| key.fits(id));
        candidates.any(|key| key.public.verify(algorithm, message, signature))
    }
}

impl Key {
    fn read(written: Written) -> Option<Self> {
        if written.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let (algorithm, public) = match (written.kty.as_str(), written.crv.as_deref()) {
            ("RSA", _) => {
                let strip = |bytes: Vec<u8>| {
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    bytes[zeros..].to_vec()
                };
                let (modulus, exponent) = (strip(bytes(&written.n)?), strip(bytes(&written.e)?));
                if !RSA.contains(&modulus.len()) || exponent.is_empty() {
                    return None;
                }
                ("RS256", Public::Rsa { modulus, exponent })
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&written.x)?, bytes(&written.y)?);
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                ("ES256", Public::P256([&[4], x.as_slice(), y.as_slice()].concat()))
            }
            ("OKP", Some("Ed25519")) => {
                let x = bytes(&written.x).filter(|x| x.len() == 32)?;
                ("EdDSA", Public::Ed25519(x))
            }
            _ => return None,
        };
        let fits = written.alg.as_deref().is_none_or(|own| own == algorithm);
        fits.then_some(Self { id: written.kid, public })
    }

    fn fits(&self, id: Option<&str>) -> bool {
        id.is_none() || self.id.as_deref() == id
    }
}

impl Public {
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa { modulus, exponent }, Algorithm::Rs256) => {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            (Self::P256(point), Algorithm::Es256) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            (Self::Ed25519(bytes), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Signer;
    use super::*;

    #[test]
    fn sets_are_read_and_other_keys_passed_over() {
        let own = [Signer::rsa("a"), Signer::p256("b"), Signer::ed25519("c")].map(|s| s.public());
        let other = json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"});
        let encrypts = json!({"kty": "RSA", "use": "enc", "n": own[0]["n"], "e": "AQAB"});
        let wrong = json!({"kty": "OKP", "crv": "Ed25519", "x": own[2]["x"], "alg": "ES256"});
        let all = json!({"keys": [own[0], other, own[1], encrypts, own[2], wrong, {"kty": "oct"}]});
        let ids = |text: &serde_json::Value| {
            let keys = Keys::read(text.to_string().as_bytes());
            keys.map(|keys| keys.0.into_iter().filter_map(|key| key.id).collect::<String>())
        };
        assert_eq!(ids(&all).as_deref(), Ok("abc"));
        assert_eq!(ids(&json!({"keys": [other, encrypts]})), Err(BadKeys::NoKey));
        assert_eq!(ids(&json!({"keys": vec![&own[2]; 11]})), Err(BadKeys::TooMany));
        assert_eq!(ids(&json!({"key": []})), Err(BadKeys::Shape));
        assert_eq!(Keys::read(b"<html>"), Err(BadKeys::Shape));
    }

    #[test]
    fn a_key_verifies_its_own_algorithm_alone() {
        let signers = [Signer::rsa("a"), Signer::p256("b"), Signer::ed25519("c")];
        let all = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
        let set = json!({"keys": signers.each_ref().map(Signer::public)});
        let keys = Keys::read(set.to_string().as_bytes()).unwrap();
        for (signer, own) in signers.iter().zip(all) {
            let signature = signer.sign(b"hello");
            for algorithm in all {
                let good = keys.verify(algorithm, None, b"hello", &signature);
                assert_eq!(good, algorithm == own, "{own:?} {algorithm:?}");
            }
            assert!(!keys.verify(own, Some("z"), b"hello", &signature) && !keys.knows(Some("z")));
            assert!(!keys.verify(own, None, b"hullo", &signature) && keys.knows(None));
        }
    }
}
