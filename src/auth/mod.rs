//! Who a client is: tokens that it brings, keys that vouch for them, and logins.
//!
//! [`Login`] sends clients to a provider and makes sessions of what they bring back, which they
//! keep under [`Seals`]. [`Validator`] decides on a token by the keys of a [`KeySet`], which is
//! read from its issuer and kept fresh on the control side; [`Fetcher`] makes the calls. Deciding
//! is pure. Not here: which request has to show what (`routing`). **Invariant:** what vouches for
//! nobody, be it missing, too large, of another algorithm or not to be verified, lets nobody in.

mod fetch;
mod jwt;
mod keys;
mod keyset;
mod oidc;
mod seals;
#[cfg(test)]
pub(crate) mod testing;

pub use fetch::{BadUrl, Failed, Fetcher, SecureUrl};
pub use jwt::{Missing, Refusal, Validator, Verdict};
pub use keys::{BadKeys, Keys};
pub use keyset::KeySet;
pub use oidc::{
    Arrival, CALLBACK, Login, LoginFailure, NONCE_COOKIE, Redirection, Refreshed, Refreshing,
    SHARDS, Session, arrive,
};
pub use seals::Seals;
