//! Certificates in files of their own, and the TLS side of listeners.
//!
//! A certificate's file may hold its chain behind it. The ARN follows from the name. **Invariant:**
//! what is wrong with a file is said without a byte of it.

use std::path::Path;

use super::super::kind::Kind;
use super::super::names;
use super::super::place::Place;
use super::super::source::{Bad, Source};
use super::super::written::{
    WrittenCertificate, WrittenListener, WrittenMutual, WrittenTrustStore,
};
use super::{Resources, id_of, read};
use crate::api::elb::limits::MOST_CERTIFICATES;
use crate::clock::Timestamp;
use crate::model::{
    Account, AlpnPolicy, Certificate, CertificateArn, CertificateStore, ListenerTls, MutualTls,
    Owner, PrivateKey, Protocol, TrustRevocations, TrustStore, TrustStoreName,
};
use crate::tls::policy::RECOMMENDED;
use crate::tls::{BadCertificate, Bundle, Identity, Policy, Revocations};

/// The same for the same name.
fn arn_of(account: &Account, name: &str) -> CertificateArn {
    let (one, two) = (id_of(&format!("certificate {name}")), id_of(&format!("{name} certificate")));
    let id = format!("{}-{}-{}-{}-{}", &one[..8], &one[8..12], &one[12..], &two[..4], &two[4..]);
    CertificateArn::new(account.certificate(&id).to_string())
}

impl Resources {
    pub(super) fn certificates(
        &mut self,
        source: &Source,
        account: &Account,
        written: &[WrittenCertificate],
        list: &Place,
    ) -> Result<(), Bad> {
        let folder = source.path.parent().unwrap_or_else(|| Path::new(""));
        for (index, wanted) in written.iter().enumerate() {
            let at = list.index(index);
            names::ecs(&wanted.name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
            let arn = arn_of(account, &wanted.name);
            self.claim(format!("certificate {}", wanted.name), &at.key("name"))?;
            self.claim(Kind::Certificate.label(&arn), &at.key("name"))?;
            let mut text = |key: &str, path: &Path| {
                let path = folder.join(path);
                self.includes.push(path.clone());
                read(&path).map_err(|error| {
                    let reason = format!("cannot read {}: {error}", path.display());
                    Bad::new(&at.key(key), reason)
                })
            };
            let certificate = text("certificate", &wanted.certificate)?;
            let private_key = text("private_key", &wanted.private_key)?;
            let (body, chain) = Identity::split(&certificate);
            if let Err(bad) = Identity::read(&body, &chain, &private_key) {
                let key = match bad {
                    BadCertificate::Key | BadCertificate::Mismatch => "private_key",
                    _ => "certificate",
                };
                return Err(Bad::new(&at.key(key), bad.to_string()));
            }
            self.certificates.push(Certificate {
                arn,
                store: CertificateStore::Acm,
                body,
                chain,
                private_key: PrivateKey::new(private_key),
                owner: Owner::File,
                created_at: Timestamp::default(),
                imported_at: Timestamp::default(),
            });
            self.certificate_names.push(wanted.name.clone());
        }
        Ok(())
    }

    pub(super) fn listener_tls(
        &self,
        written: &WrittenListener,
        protocol: Protocol,
        at: &Place,
    ) -> Result<Option<ListenerTls>, Bad> {
        let mutual = self.mutual(written, protocol, at)?;
        if !protocol.is_secure() {
            for (key, there) in [
                ("certificates", written.certificates.is_some()),
                ("ssl_policy", written.ssl_policy.is_some()),
            ] {
                if there {
                    return Err(Bad::new(&at.key(key), "belongs to HTTPS and TLS listeners"));
                }
            }
            return Ok(None);
        }
        let list = at.key("certificates");
        let names = written.certificates.as_deref().unwrap_or_default();
        if !(1..=1 + MOST_CERTIFICATES).contains(&names.len()) {
            let reason = "must name the default certificate and at most 25 others";
            return Err(Bad::new(&list, reason));
        }
        let mut certificates = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let arn = self.certificate(name, &list.index(index))?;
            if certificates.contains(&arn) {
                let reason = format!("certificate {name} stands here twice");
                return Err(Bad::new(&list.index(index), reason));
            }
            certificates.push(arn);
        }
        let policy = written.ssl_policy.as_deref().unwrap_or(RECOMMENDED);
        if Policy::find(policy).is_none() {
            let reason = format!("there is no security policy {policy:?}");
            return Err(Bad::new(&at.key("ssl_policy"), reason));
        }
        let policy = policy.to_owned();
        Ok(Some(ListenerTls { certificates, policy, alpn: AlpnPolicy::default(), mutual }))
    }

    /// What a listener asks of its clients' certificates.
    fn mutual(
        &self,
        written: &WrittenListener,
        protocol: Protocol,
        at: &Place,
    ) -> Result<MutualTls, Bad> {
        let mode = written.mutual_authentication.unwrap_or_default();
        if protocol != Protocol::Https && mode != WrittenMutual::Off {
            let reason = "belongs to HTTPS listeners";
            return Err(Bad::new(&at.key("mutual_authentication"), reason));
        }
        let of_verify = [
            ("trust_store", written.trust_store.is_some()),
            (
                "ignore_client_certificate_expiry",
                written.ignore_client_certificate_expiry.is_some(),
            ),
            ("advertise_trust_store_ca_names", written.advertise_trust_store_ca_names.is_some()),
        ];
        let strange = of_verify.iter().find(|(_, there)| *there && mode != WrittenMutual::Verify);
        if let Some((key, _)) = strange {
            let reason = "belongs to mutual_authentication = \"verify\"";
            return Err(Bad::new(&at.key(key), reason));
        }
        Ok(match mode {
            WrittenMutual::Off => MutualTls::Off,
            WrittenMutual::Passthrough => MutualTls::Passthrough,
            WrittenMutual::Verify => {
                let key = at.key("trust_store");
                let name = written.trust_store.as_deref().unwrap_or_default();
                let store = TrustStoreName::from(name);
                if !self.trust_stores.iter().any(|row| row.name == store) {
                    return Err(Bad::new(&key, format!("there is no trust store {name:?}")));
                }
                MutualTls::Verify {
                    store,
                    ignore_expiry: written.ignore_client_certificate_expiry.unwrap_or_default(),
                    advertise: written.advertise_trust_store_ca_names.unwrap_or_default(),
                }
            }
        })
    }

    pub(super) fn trust_stores(
        &mut self,
        source: &Source,
        written: &[WrittenTrustStore],
        list: &Place,
    ) -> Result<(), Bad> {
        let folder = source.path.parent().unwrap_or_else(|| Path::new(""));
        for (index, wanted) in written.iter().enumerate() {
            let at = list.index(index);
            names::elb(&wanted.name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
            self.claim(Kind::TrustStore.label(&wanted.name), &at.key("name"))?;
            let mut text = |key: &Place, path: &Path| {
                let path = folder.join(path);
                self.includes.push(path.clone());
                read(&path).map_err(|error| {
                    Bad::new(key, format!("cannot read {}: {error}", path.display()))
                })
            };
            let key = at.key("ca_certificates");
            let bundle = text(&key, &wanted.ca_certificates)?;
            Bundle::read(&bundle).map_err(|bad| Bad::new(&key, bad.to_string()))?;
            let mut revocations = Vec::new();
            for (index, path) in wanted.revocations.iter().enumerate() {
                let key = at.key("revocations").index(index);
                let content = text(&key, path)?;
                let list = Revocations::read(&content);
                let list = list.map_err(|bad| Bad::new(&key, bad.to_string()))?;
                let id = index as u64 + 1;
                revocations.push(TrustRevocations { id, content, entries: list.entries });
            }
            self.trust_stores.push(TrustStore {
                name: wanted.name.as_str().into(),
                id: id_of(&format!("trust store {}", wanted.name)),
                bundle,
                revocations,
                owner: Owner::File,
            });
        }
        Ok(())
    }

    /// One of the file by its name, one of the API by its ARN.
    fn certificate(&self, name: &str, at: &Place) -> Result<CertificateArn, Bad> {
        if name.starts_with("arn:") {
            return Ok(CertificateArn::from(name));
        }
        let index = self.certificate_names.iter().position(|known| known == name);
        let row = index.and_then(|index| self.certificates.get(index));
        row.map(|row| row.arn.clone())
            .ok_or_else(|| Bad::new(at, format!("there is no certificate {name:?}")))
    }
}
