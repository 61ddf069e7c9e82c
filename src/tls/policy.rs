//! ELB's named security policies, and what rustls serves of each.
//!
//! Source: the guide's "Security policies for your Application Load Balancer". Not here: the FIPS
//! ones. **Invariant:** nothing is offered that the policy does not have. What rustls does not
//! have is never offered: TLS 1.0 and 1.1, CBC, key exchange without forward secrecy.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

/// What a listener of the file gets that names none: AWS recommends it.
pub const RECOMMENDED: &str = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09";
/// What `CreateListener` gives a listener without one.
pub const OF_THE_API: &str = "ELBSecurityPolicy-2016-08";
const PREFIX: &str = "ELBSecurityPolicy-";

const TLS13: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
const FORWARD_GCM: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
];
const FORWARD_SHA2: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA384",
];
const FORWARD_SHA1: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES256-SHA",
];
const RSA_SHA2: &[&str] =
    &["AES128-GCM-SHA256", "AES128-SHA256", "AES256-GCM-SHA384", "AES256-SHA256"];
const RSA_SHA1: &[&str] = &["AES128-SHA", "AES256-SHA"];

/// One policy, as ELB documents it.
#[derive(Debug)]
pub struct Policy {
    /// Behind `ELBSecurityPolicy-`.
    name: &'static str,
    /// The oldest first.
    pub protocols: &'static [&'static str],
    ciphers: &'static [&'static [&'static str]],
}

const V1_3: &[&str] = &["TLSv1.3"];
const V1_2: &[&str] = &["TLSv1.2"];
const V1_2_3: &[&str] = &["TLSv1.2", "TLSv1.3"];
const V1_1_2: &[&str] = &["TLSv1.1", "TLSv1.2"];
const V1_0_2: &[&str] = &["TLSv1", "TLSv1.1", "TLSv1.2"];
const V1_1_3: &[&str] = &["TLSv1.1", "TLSv1.2", "TLSv1.3"];
const V1_0_3: &[&str] = &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

const EVERY: &[&[&str]] = &[FORWARD_GCM, FORWARD_SHA2, FORWARD_SHA1, RSA_SHA2, RSA_SHA1];
const EVERY_13: &[&[&str]] = &[TLS13, FORWARD_GCM, FORWARD_SHA2, FORWARD_SHA1, RSA_SHA2, RSA_SHA1];
const FORWARD: &[&[&str]] = &[FORWARD_GCM, FORWARD_SHA2, FORWARD_SHA1];

const fn policy(
    name: &'static str,
    protocols: &'static [&'static str],
    ciphers: &'static [&'static [&'static str]],
) -> Policy {
    Policy { name, protocols, ciphers }
}

/// Ascending by name.
pub const POLICIES: &[Policy] = &[
    policy("2016-08", V1_0_2, EVERY),
    policy("FS-1-1-2019-08", V1_1_2, FORWARD),
    policy("FS-1-2-2019-08", V1_2, FORWARD),
    policy("FS-1-2-Res-2019-08", V1_2, &[FORWARD_GCM, FORWARD_SHA2]),
    policy("FS-1-2-Res-2020-10", V1_2, &[FORWARD_GCM]),
    policy("FS-2018-06", V1_0_2, FORWARD),
    policy("TLS-1-1-2017-01", V1_1_2, EVERY),
    policy("TLS-1-2-2017-01", V1_2, &[FORWARD_GCM, FORWARD_SHA2, RSA_SHA2]),
    policy("TLS-1-2-Ext-2018-06", V1_2, EVERY),
    policy("TLS13-1-0-2021-06", V1_0_3, EVERY_13),
    policy("TLS13-1-1-2021-06", V1_1_3, EVERY_13),
    policy("TLS13-1-2-2021-06", V1_2_3, &[TLS13, FORWARD_GCM, FORWARD_SHA2]),
    policy("TLS13-1-2-Ext1-2021-06", V1_2_3, &[TLS13, FORWARD_GCM, FORWARD_SHA2, RSA_SHA2]),
    policy("TLS13-1-2-Ext2-2021-06", V1_2_3, EVERY_13),
    policy("TLS13-1-2-PQ-2025-09", V1_2_3, &[TLS13, FORWARD_GCM, FORWARD_SHA2]),
    policy("TLS13-1-2-Res-2021-06", V1_2_3, &[TLS13, FORWARD_GCM]),
    policy("TLS13-1-2-Res-PQ-2025-09", V1_2_3, &[TLS13, FORWARD_GCM]),
    policy("TLS13-1-3-2021-06", V1_3, &[TLS13]),
    policy("TLS13-1-3-PQ-2025-09", V1_3, &[TLS13]),
];

const CLASSIC: &[&dyn SupportedKxGroup] =
    &[kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
const POST_QUANTUM: &[&dyn SupportedKxGroup] = &[
    kx_group::X25519MLKEM768,
    kx_group::SECP256R1MLKEM768,
    kx_group::X25519,
    kx_group::SECP256R1,
    kx_group::SECP384R1,
];

impl Policy {
    /// By its whole name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        let short = name.strip_prefix(PREFIX)?;
        POLICIES.iter().find(|policy| policy.name == short)
    }

    /// With its prefix.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// In the order of preference, by the names that OpenSSL gives them.
    pub fn ciphers(&self) -> impl Iterator<Item = &'static str> {
        self.ciphers.iter().copied().flatten().copied()
    }

    /// What of it is offered.
    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let all = [("TLSv1.2", &rustls::version::TLS12), ("TLSv1.3", &rustls::version::TLS13)];
        let offered = all.into_iter().filter(|(name, _)| self.protocols.contains(name));
        offered.map(|(_, version)| version).collect()
    }

    /// What of it is offered, in its order.
    pub(super) fn suites(&self) -> Vec<SupportedCipherSuite> {
        let all = &super::provider().cipher_suites;
        let suite = |name| all.iter().find(|suite| cipher(suite.suite()) == name).copied();
        self.ciphers().filter_map(suite).collect()
    }

    pub(super) fn groups(&self) -> &'static [&'static dyn SupportedKxGroup] {
        if self.name.contains("-PQ-") { POST_QUANTUM } else { CLASSIC }
    }
}

/// As OpenSSL, access logs and `x-amzn-tls-cipher-suite` call it.
pub(super) fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_ascend_by_name_and_name_no_cipher_twice() {
        assert!(POLICIES.is_sorted_by(|a, b| a.name < b.name));
        for policy in POLICIES {
            let ciphers: Vec<_> = policy.ciphers().collect();
            let unique: std::collections::BTreeSet<_> = ciphers.iter().collect();
            assert_eq!(ciphers.len(), unique.len(), "{}", policy.name);
        }
    }

    #[test]
    fn every_policy_offers_its_own_part_and_no_more() {
        for policy in POLICIES {
            let offered: Vec<_> = policy.suites().iter().map(|s| cipher(s.suite())).collect();
            assert!(!offered.is_empty() && !policy.versions().is_empty(), "{}", policy.name);
            assert!(offered.iter().all(|name| policy.ciphers().any(|own| own == *name)));
        }
        let check = |name: &str, expected: &str| {
            let policy = Policy::find(name).unwrap();
            let versions = policy.versions();
            let versions = versions.iter().map(|version| format!("{:?}", version.version));
            let suites = policy.suites().len();
            let groups = policy.groups().len();
            let shown = format!("{} {suites} {groups}", versions.collect::<Vec<_>>().join("+"));
            assert_eq!(shown, expected, "{name}");
        };
        check(OF_THE_API, "TLSv1_2 4 3");
        check(RECOMMENDED, "TLSv1_2+TLSv1_3 7 5");
        check("ELBSecurityPolicy-TLS13-1-3-2021-06", "TLSv1_3 3 3");
        check("ELBSecurityPolicy-TLS13-1-0-2021-06", "TLSv1_2+TLSv1_3 7 3");
        check("ELBSecurityPolicy-FS-1-2-Res-2019-08", "TLSv1_2 4 3");
        assert!(Policy::find("2016-08").is_none());
    }
}
