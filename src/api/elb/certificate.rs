//! Certificates, security policy and ALPN of a listener: what is asked, what it means, and the
//! list of certificates that server names choose from.
//!
//! Not here: the certificates themselves, which ACM and IAM keep. **Invariant:** a listener names
//! each certificate once, its default one first.

use serde::Deserialize;
use serde_json::{Value, json};

use super::find::{self, PAGE, marker, own};
use super::limits::MOST_CERTIFICATES;
use super::{ssl_policy, trust_store};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::model::{
    Account, AlpnPolicy, CertificateArn, Listener, ListenerTls, LoadBalancerName, MutualTls,
    Protocol,
};
use crate::state::State;
use crate::tls::policy::OF_THE_API;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Named {
    certificate_arn: Option<String>,
    is_default: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Mutual {
    mode: Option<String>,
    trust_store_arn: Option<String>,
    ignore_client_certificate_expiry: Option<bool>,
    advertise_trust_store_ca_names: Option<String>,
}

impl Mutual {
    fn meaning(&self, state: &State, account: &Account) -> Result<MutualTls, Error> {
        let mode = self.mode.as_deref().unwrap_or("off");
        let given = [
            ("TrustStoreArn", self.trust_store_arn.is_some()),
            ("IgnoreClientCertificateExpiry", self.ignore_client_certificate_expiry.is_some()),
            ("AdvertiseTrustStoreCaNames", self.advertise_trust_store_ca_names.is_some()),
        ];
        let strange = given.iter().find(|(_, given)| *given && mode != "verify");
        if let Some((member, _)) = strange {
            return Err(Error::invalid(format!(
                "{member} can be specified with the mutual authentication mode 'verify'"
            )));
        }
        match mode {
            "off" => Ok(MutualTls::Off),
            "passthrough" => Ok(MutualTls::Passthrough),
            "verify" => {
                let arn = self.trust_store_arn.as_deref().ok_or_else(|| {
                    Error::invalid("A trust store ARN must be specified for the mode 'verify'")
                })?;
                Ok(MutualTls::Verify {
                    store: trust_store::find(state, account, arn)?.name,
                    ignore_expiry: self.ignore_client_certificate_expiry.unwrap_or_default(),
                    advertise: self.advertise_trust_store_ca_names.as_deref() == Some("on"),
                })
            }
            _ => Err(Error::invalid(format!(
                "Mutual authentication mode '{mode}' must be one of 'off, passthrough, verify'"
            ))),
        }
    }
}

/// The members that `CreateListener` and `ModifyListener` share.
pub(super) struct Asked<'a> {
    pub(super) certificates: Option<&'a [Named]>,
    pub(super) ssl_policy: Option<&'a str>,
    pub(super) alpn_policy: Option<&'a [String]>,
    pub(super) mutual: Option<&'a Mutual>,
}

/// The TLS side of a listener that speaks `protocol`, made of what it had and what is asked.
pub(super) fn meaning(
    (state, account): (&State, &Account),
    protocol: Protocol,
    current: Option<&ListenerTls>,
    asked: &Asked<'_>,
) -> Result<Option<ListenerTls>, Error> {
    let mutual = asked.mutual.map(|mutual| mutual.meaning(state, account)).transpose()?;
    if protocol != Protocol::Https && mutual.as_ref().is_some_and(|m| *m != MutualTls::Off) {
        let text = "Mutual authentication is supported for listeners of protocol 'HTTPS' only";
        return Err(Error::invalid(text));
    }
    let alpn = alpn(protocol, asked.alpn_policy)?;
    if !protocol.is_secure() {
        let given = [
            ("Certificates", asked.certificates.is_some_and(|list| !list.is_empty())),
            ("SslPolicy", asked.ssl_policy.is_some()),
        ];
        return match given.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((member, _)) => {
                let protocol = protocol.as_str();
                Err(Error::unsupported(format!(
                    "{member} is not supported for listeners of protocol '{protocol}'"
                )))
            }
        };
    }
    if let Some(policy) = asked.ssl_policy {
        ssl_policy::known(policy)?;
    }
    let default = default((state, account), asked.certificates.unwrap_or_default())?;
    let mut tls = match (current, default.clone()) {
        (Some(current), _) => current.clone(),
        (None, Some(default)) => ListenerTls {
            certificates: vec![default],
            policy: OF_THE_API.to_owned(),
            alpn: AlpnPolicy::default(),
            mutual: MutualTls::Off,
        },
        (None, None) => {
            let message =
                format!("A certificate must be specified for {} listeners", protocol.as_str());
            return Err(Error::invalid(message));
        }
    };
    if let Some(default) = default {
        tls.certificates.remove(0);
        tls.certificates.retain(|arn| *arn != default);
        tls.certificates.insert(0, default);
    }
    if let Some(policy) = asked.ssl_policy {
        policy.clone_into(&mut tls.policy);
    }
    tls.alpn = alpn.unwrap_or(tls.alpn);
    if let Some(mutual) = mutual {
        tls.mutual = mutual;
    }
    Ok(Some(tls))
}

/// The one certificate that may be given with a listener.
fn default(
    (state, account): (&State, &Account),
    given: &[Named],
) -> Result<Option<CertificateArn>, Error> {
    match given {
        [] => Ok(None),
        [one] if one.is_default.is_none() => found(state, account, one).map(Some),
        [_] => Err(Error::invalid("IsDefault cannot be specified for a listener's certificate")),
        _ => Err(Error::invalid("Up to '1' certificate ARN can be specified here")),
    }
}

fn found(state: &State, account: &Account, named: &Named) -> Result<CertificateArn, Error> {
    let arn = named.certificate_arn.as_deref().unwrap_or_default();
    let arn = CertificateArn::from(arn);
    if state.certificates.contains_key(&arn) && account.sees(&arn) {
        return Ok(arn);
    }
    let message = format!("Certificate '{arn}' not found");
    Err(Error::new("CertificateNotFoundException", message))
}

fn alpn(protocol: Protocol, asked: Option<&[String]>) -> Result<Option<AlpnPolicy>, Error> {
    let unfit = |message: String| Error::new("ALPNPolicyNotSupportedException", message);
    match asked {
        None | Some([]) => Ok(None),
        Some([name]) if protocol == Protocol::Tls => AlpnPolicy::find(name)
            .map(Some)
            .ok_or_else(|| unfit(format!("ALPN policy '{name}' is not supported"))),
        Some([name]) if name == "None" => Ok(None),
        Some(_) => {
            let protocol = protocol.as_str();
            Err(unfit(format!(
                "One ALPN policy can be specified, for TLS listeners; this one is '{protocol}'"
            )))
        }
    }
}

/// Puts a listener's TLS side into what the API shows of it.
pub(super) fn show(state: &State, account: &Account, listener: &Listener, shown: &mut Value) {
    let Some(tls) = &listener.options.tls else { return };
    let default: Vec<_> =
        tls.certificates.iter().take(1).map(|arn| json!({"CertificateArn": arn})).collect();
    shown["Certificates"] = json!(default);
    shown["SslPolicy"] = json!(tls.policy);
    if listener.protocol == Protocol::Tls {
        shown["AlpnPolicy"] = json!([tls.alpn.as_str()]);
    } else {
        shown["MutualAuthentication"] = mutual(state, account, &tls.mutual);
    }
}

fn mutual(state: &State, account: &Account, mutual: &MutualTls) -> Value {
    let mut shown = json!({ "Mode": mutual.as_str() });
    if let MutualTls::Verify { store, ignore_expiry, advertise } = mutual {
        let arn = state.trust_stores.get(store).map(|row| account.trust_store(row).to_string());
        shown["TrustStoreArn"] = json!(arn);
        shown["IgnoreClientCertificateExpiry"] = json!(ignore_expiry);
        shown["TrustStoreAssociationStatus"] = json!("active");
        shown["AdvertiseTrustStoreCaNames"] = json!(if *advertise { "on" } else { "off" });
    }
    shown
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    listener_arn: String,
    certificates: Vec<Named>,
}

pub(super) async fn add(call: &Call, input: Input) -> Outcome {
    let asked: Change = input.read()?;
    let account = call.account().clone();
    let added = find::change(call, move |tx| {
        let state = tx.state();
        let (lb, row) = find::listener(state, &account, &asked.listener_arn)?;
        let mut row = secure(&row)?;
        let mut wanted = Vec::new();
        for named in &asked.certificates {
            if named.is_default.is_some() {
                let message = "IsDefault cannot be specified when adding certificates";
                return Err(Error::invalid(message));
            }
            wanted.push(found(state, &account, named)?);
        }
        own(row.owner, "listener", &row.key)?;
        let others = others(state, &lb.name);
        let Some(tls) = &mut row.options.tls else { return Ok(wanted) };
        let fresh: Vec<_> =
            wanted.iter().filter(|arn| !tls.certificates.contains(arn)).cloned().collect();
        if others + fresh.len() > MOST_CERTIFICATES {
            let message = format!("The maximum number of certificates is '{MOST_CERTIFICATES}'");
            return Err(Error::new("TooManyCertificatesException", message));
        }
        tls.certificates.extend(fresh);
        tx.put(row);
        Ok(wanted)
    })
    .await?;
    let shown = |arn: &CertificateArn| json!({"CertificateArn": arn, "IsDefault": false});
    Ok(json!({"Certificates": added.iter().map(shown).collect::<Vec<_>>()}))
}

/// The row to be changed; refuses one without TLS.
fn secure(row: &Listener) -> Result<Listener, Error> {
    let protocol = row.protocol.as_str();
    let none =
        || Error::unsupported(format!("Listeners of protocol '{protocol}' have no certificates"));
    row.options.tls.as_ref().ok_or_else(none)?;
    Ok(row.clone())
}

/// Certificates of a load balancer's listeners, the default ones not counted.
fn others(state: &State, name: &LoadBalancerName) -> usize {
    let listeners = find::listeners(state, name).filter_map(|row| row.options.tls.as_ref());
    listeners.map(|tls| tls.certificates.len() - 1).sum()
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        listener_arn: String,
        marker: Option<String>,
        page_size: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let (_, row) = find::listener(&call.state(), call.account(), &asked.listener_arn)?;
    let all = row.options.tls.as_ref().map(|tls| tls.certificates.clone()).unwrap_or_default();
    let defaults = std::iter::once(true).chain(std::iter::repeat(false));
    let mut certificates: Vec<(bool, CertificateArn)> = defaults.zip(all).collect();
    let key = |(default, arn): &(bool, CertificateArn)| format!("{}{arn}", u8::from(!default));
    certificates.sort_by_key(key);
    let size = asked.page_size.unwrap_or(PAGE);
    let (page, next) = page(certificates, key, asked.marker.as_deref(), size).map_err(marker)?;
    let shown: Vec<Value> = page
        .into_iter()
        .map(|(default, arn)| json!({"CertificateArn": arn, "IsDefault": default}))
        .collect();
    Ok(json!({"Certificates": shown, "NextMarker": next}))
}

pub(super) async fn remove(call: &Call, input: Input) -> Outcome {
    let asked: Change = input.read()?;
    let account = call.account().clone();
    find::change(call, move |tx| {
        let (_, row) = find::listener(tx.state(), &account, &asked.listener_arn)?;
        let mut row = secure(&row)?;
        own(row.owner, "listener", &row.key)?;
        let Some(tls) = &mut row.options.tls else { return Ok(()) };
        let named = |arn: &CertificateArn| {
            asked.certificates.iter().any(|n| n.certificate_arn.as_deref() == Some(arn.as_str()))
        };
        if tls.certificates.first().is_some_and(named) {
            return Err(Error::new(
                "OperationNotPermittedException",
                "The default certificate of a listener cannot be removed",
            ));
        }
        tls.certificates.retain(|arn| !named(arn));
        tx.put(row);
        Ok(())
    })
    .await?;
    Ok(json!({}))
}
