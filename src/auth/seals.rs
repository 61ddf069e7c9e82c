//! What is given to clients to keep, sealed; and what targets are told about them, signed.
//!
//! Keys follow from the State's secrets, one or two, so that every process with the same secrets
//! takes what another has sealed. **Invariant:** what opens was sealed for the same purpose by one
//! of the keys, and nobody else can read it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::model;

/// More text than this is not opened (ALB: four cookies of 4 KiB).
const LONGEST: usize = 16 * 1024;
/// What stands before the point of a public key of P-256 (RFC 5480, section 2).
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The keys of this and the last period.
#[derive(Default)]
pub struct Seals {
    /// The first seals and signs.
    keys: Vec<Own>,
}

struct Own {
    seal: RandomizedNonceKey,
    signer: EcdsaKeyPair,
    /// Uncompressed.
    point: Vec<u8>,
    /// What tokens and URLs call the public key.
    id: String,
}

impl std::fmt::Debug for Seals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seals").field("count", &self.keys.len()).finish()
    }
}

impl Own {
    fn new(secret: &[u8]) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, b"roadstead").extract(secret);
        let derive = |purpose: &[u8], count: u8| {
            let mut key = [0; 32];
            root.expand(&[purpose, &[count]], HKDF_SHA256).ok()?.fill(&mut key).ok()?;
            Some(key)
        };
        let seal = RandomizedNonceKey::new(&AES_256_GCM, &derive(b"seal", 0)?).ok()?;
        // One text in 2^32 is no private key.
        let (private, key) = (0..8).find_map(|count| {
            let private = derive(b"sign", count)?;
            Some((private, PrivateKey::from_private_key(&ECDH_P256, &private).ok()?))
        })?;
        let point = key.compute_public_key().ok()?.as_ref().to_vec();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let signer = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &point);
        let hex = model::hex(&Sha256::digest(&point)[..16]);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Some(Self { seal, signer: signer.ok()?, point, id: parts.join("-") })
    }

    fn open(&self, purpose: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let (nonce, mut rest) = (Nonce::try_assume_unique_for_key(nonce).ok()?, rest.to_vec());
        let length = self.seal.open_in_place(nonce, Aad::from(purpose), &mut rest).ok()?.len();
        rest.truncate(length);
        Some(rest)
    }
}

impl Seals {
    /// `secrets`: the one that seals first.
    #[must_use]
    pub fn new<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        Self { keys: secrets.filter_map(Own::new).collect() }
    }

    /// A text that a cookie or a URL can hold; none without a key.
    #[must_use]
    pub fn seal(&self, purpose: &[u8], plain: &[u8]) -> Option<String> {
        let mut rest = plain.to_vec();
        let own = self.keys.first()?;
        let nonce = own.seal.seal_in_place_append_tag(Aad::from(purpose), &mut rest).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_ref(), rest.as_slice()].concat()))
    }

    /// What was sealed for this purpose.
    #[must_use]
    pub fn open(&self, purpose: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        if text.len() > LONGEST {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        self.keys.iter().find_map(|own| own.open(purpose, &sealed))
    }

    /// A token of ES256 with these claims and members of its header; none without a key. As ALB's,
    /// its parts are padded.
    #[must_use]
    pub fn sign(
        &self,
        mut header: serde_json::Map<String, serde_json::Value>,
        claims: &serde_json::Value,
    ) -> Option<String> {
        let own = self.keys.first()?;
        header.insert("typ".into(), "JWT".into());
        header.insert("alg".into(), "ES256".into());
        header.insert("kid".into(), own.id.as_str().into());
        let header = URL_SAFE.encode(serde_json::Value::Object(header).to_string());
        let signed = format!("{header}.{}", URL_SAFE.encode(claims.to_string()));
        let signature = own.signer.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE.encode(signature)))
    }

    /// The public key of this id, PEM.
    #[must_use]
    pub fn public_key(&self, id: &str) -> Option<String> {
        let own = self.keys.iter().find(|own| own.id == id)?;
        let text = STANDARD.encode([&SPKI[..], &own.point].concat());
        let (first, second) = text.split_at(64);
        Some(format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seals(secrets: &[&str]) -> Seals {
        Seals::new(secrets.iter().map(|secret| secret.as_bytes()))
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_with_either_key() {
        let sealed = seals(&["a"]).seal(b"one", b"hello").unwrap();
        assert_ne!(seals(&["a"]).seal(b"one", b"hello").unwrap(), sealed);
        let open =
            |secrets: &[&str], purpose: &[u8]| seals(secrets).open(purpose, sealed.as_bytes());
        assert_eq!(open(&["a"], b"one").as_deref(), Some(&b"hello"[..]));
        assert_eq!(open(&["b", "a"], b"one").as_deref(), Some(&b"hello"[..]));
        assert_eq!(open(&["a"], b"two"), None);
        assert_eq!(open(&["b"], b"one"), None);
        assert_eq!(seals(&[]).seal(b"one", b""), None);
        for (at, _) in sealed.char_indices() {
            let mut bent = sealed.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            let opened = seals(&["a"]).open(b"one", &bent);
            // The last character has bits that stand for nothing.
            assert!(opened.is_none() || at + 1 == sealed.len(), "{at}");
        }
        for short in ["", "A", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAA", "\u{e4}"] {
            assert_eq!(seals(&["a"]).open(b"one", short.as_bytes()), None);
        }
    }

    #[test]
    fn what_is_signed_is_verified_with_the_key_that_is_shown() {
        use rustls::pki_types::pem::PemObject as _;
        let own = seals(&["a"]);
        let token = own.sign(serde_json::Map::new(), &json!({"sub": "me"})).unwrap();
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!()
        };
        let header: serde_json::Value =
            serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        assert_eq!(header["alg"], "ES256");
        assert_eq!(URL_SAFE.decode(claims).unwrap(), br#"{"sub":"me"}"#);
        let pem = own.public_key(header["kid"].as_str().unwrap()).unwrap();
        let key = rustls::pki_types::SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes());
        let point = key.unwrap()[26..].to_vec();
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED,
            point,
        );
        let signed = &token.as_bytes()[..token.len() - signature.len() - 1];
        key.verify(signed, &URL_SAFE.decode(signature).unwrap()).unwrap();
        assert_eq!(own.public_key("x"), None);
        assert_eq!(
            seals(&["a"]).public_key(header["kid"].as_str().unwrap()),
            Some(pem),
            "it stays"
        );
    }
}
