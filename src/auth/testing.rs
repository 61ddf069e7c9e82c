//! Whoever issues tokens in a test: keys of the moment, and what they sign.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) struct Signer {
    id: String,
    key: Own,
}

enum Own {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(crate) fn rsa(id: &str) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self { id: id.into(), key: Own::Rsa(Box::new(key)) }
    }

    pub(crate) fn p256(id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { id: id.into(), key: Own::P256(key) }
    }

    pub(crate) fn ed25519(id: &str) -> Self {
        Self { id: id.into(), key: Own::Ed25519(Ed25519KeyPair::generate().unwrap()) }
    }

    /// As a key set has it.
    pub(crate) fn public(&self) -> Value {
        match &self.key {
            Own::Rsa(key) => {
                // RFC 8017, appendix A.1.1: its modulus of 257 bytes, a zero first, and 65537.
                let der = key.public_key().as_ref();
                let modulus = text(&der[der.len() - 5 - 256..der.len() - 5]);
                let exponent = text(&der[der.len() - 3..]);
                json!({"kty": "RSA", "kid": self.id, "alg": "RS256", "use": "sig",
                    "n": modulus, "e": exponent})
            }
            Own::P256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": text(x), "y": text(y)})
            }
            Own::Ed25519(key) => {
                let x = text(key.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x})
            }
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Own::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Own::P256(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Own::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    pub(crate) const fn algorithm(&self) -> &'static str {
        match &self.key {
            Own::Rsa(_) => "RS256",
            Own::P256(_) => "ES256",
            Own::Ed25519(_) => "EdDSA",
        }
    }

    /// A token with this key's header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_of(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.id}), claims)
    }

    pub(crate) fn token_of(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            text(header.to_string().as_bytes()),
            text(claims.to_string().as_bytes())
        );
        let signature = text(&self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
