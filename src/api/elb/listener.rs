//! Listeners: HTTP, HTTPS and TCP, bound before they are acknowledged.
//!
//! Not here: their rules and the table of their attributes. **Invariant:** a listener that is
//! acknowledged has its port: what cannot be bound refuses the call and changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::attributes::Given;
use super::find::{self, PAGE, default_rule_id, marker, new_id, own};
use super::limits::MOST_LISTENERS;
use super::listener_attributes::TABLE;
use super::{action, certificate, target_group};
use crate::api::call::{Api, Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::page;
use crate::api::tags::{self, Tag};
use crate::model::{
    Account, Action, Carrier, Listener, ListenerKey, ListenerOptions, LoadBalancer,
    LoadBalancerKind, Owner, Protocol,
};
use crate::net::{Claims, SocketKey};
use crate::routing::RoutedListener;
use crate::state::{Key, State, Tx};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    load_balancer_arn: String,
    protocol: Option<String>,
    port: Option<u16>,
    default_actions: Vec<action::Asked>,
    certificates: Option<Vec<certificate::Named>>,
    ssl_policy: Option<String>,
    alpn_policy: Option<Vec<String>>,
    mutual_authentication: Option<certificate::Mutual>,
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Modify {
    listener_arn: String,
    port: Option<u16>,
    protocol: Option<String>,
    default_actions: Option<Vec<action::Asked>>,
    certificates: Option<Vec<certificate::Named>>,
    ssl_policy: Option<String>,
    alpn_policy: Option<Vec<String>>,
    mutual_authentication: Option<certificate::Mutual>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    listener_arn: String,
}

/// Runs a change that may bind; what was bound for one that is refused is given back.
async fn binding<R: Send + 'static>(
    call: &Call,
    change: impl FnOnce(&mut Tx<'_>, &Binder) -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    let (api, account) = (Arc::clone(&call.api), call.account().clone());
    let binder = Binder { api, account, claims: Claims::default() };
    let claims = binder.claims.clone();
    let outcome = find::change(call, move |tx| change(tx, &binder)).await;
    if outcome.is_err() {
        (call.api.give_back)(&claims);
    }
    outcome
}

/// Binds for one change.
struct Binder {
    api: Arc<Api>,
    account: Account,
    claims: Claims,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    find::tag_map(asked.tags.as_ref())?;
    let made = binding(call, move |tx, binder| make(tx, binder, asked)).await?;
    Ok(json!({"Listeners": [shown(&call.state(), call.account(), &made)]}))
}

fn make(tx: &mut Tx<'_>, binder: &Binder, asked: Create) -> Result<Listener, Error> {
    let (state, account) = (tx.state(), &binder.account);
    let lb = find::load_balancer(state, account, &asked.load_balancer_arn)?;
    let Some(protocol) = asked.protocol.as_deref() else {
        return Err(Error::invalid("A listener protocol must be specified"));
    };
    let protocol = self::protocol(lb.kind, protocol)?;
    let Some(port) = asked.port else {
        return Err(Error::invalid("A listener port must be specified"));
    };
    let meant = action::meaning(state, account, protocol, &asked.default_actions, None)?;
    let action::Meant { action: default_action, order, stickiness, authentication } = meant;
    let secure = certificate::Asked {
        certificates: asked.certificates.as_deref(),
        ssl_policy: asked.ssl_policy.as_deref(),
        alpn_policy: asked.alpn_policy.as_deref(),
        mutual: asked.mutual_authentication.as_ref(),
    };
    let tls = certificate::meaning((state, account), protocol, None, &secure)?;
    let key = ListenerKey { load_balancer: lb.name.clone(), port };
    if let Some(known) = state.listeners.get(&key) {
        // The same call again succeeds.
        let arn = account.listener(&lb, &known.key, &known.id);
        let same_tags = *tags::of(state, &arn) == find::tag_map(asked.tags.as_ref())?;
        let same = known.default_action == default_action
            && known.options.authentication == authentication
            && known.options.tls == tls;
        if same && same_tags && known.owner == Owner::Api {
            return Ok(Listener::clone(known));
        }
        return Err(duplicate(&lb, account));
    }
    if find::listeners(state, &lb.name).count() >= MOST_LISTENERS {
        let message = format!("The maximum number of listeners is '{MOST_LISTENERS}'");
        return Err(Error::new("TooManyListenersException", message));
    }
    associate(state, account, &lb, &default_action)?;
    let made = Listener {
        key,
        id: new_id(),
        protocol,
        carrier: Carrier::default(),
        rules: Vec::new(),
        default_action,
        owner: Owner::Api,
        options: ListenerOptions {
            order,
            authentication,
            stickiness,
            tls,
            ..ListenerOptions::default()
        },
    };
    bind(binder, &lb, &made)?;
    find::put_tags(tx, &account.listener(&lb, &made.key, &made.id), asked.tags)?;
    tx.put(made.clone());
    Ok(made)
}

fn duplicate(lb: &LoadBalancer, account: &Account) -> Error {
    let message = format!(
        "A listener already exists on this port for this load balancer '{}'",
        account.load_balancer(lb)
    );
    Error::new("DuplicateListenerException", message)
}

fn protocol(kind: LoadBalancerKind, text: &str) -> Result<Protocol, Error> {
    let (own, all): (&[Protocol], &[&str]) = match kind {
        LoadBalancerKind::Application => (&[Protocol::Http, Protocol::Https], &["HTTP", "HTTPS"]),
        LoadBalancerKind::Network => {
            (&[Protocol::Tcp], &["TCP", "TLS", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC"])
        }
    };
    if let Some(own) = own.iter().find(|own| own.as_str() == text) {
        Ok(*own)
    } else if all.contains(&text) {
        let message = format!("Listeners of protocol '{text}' are not supported here");
        Err(Error::new("UnsupportedProtocolException", message))
    } else {
        Err(Error::invalid(format!("Protocol '{text}' must be one of '{}'", all.join(", "))))
    }
}

/// A target group belongs to one load balancer.
pub(super) fn associate(
    state: &State,
    account: &Account,
    lb: &LoadBalancer,
    action: &Action,
) -> Result<(), Error> {
    for name in action::groups(action) {
        let Some(group) = state.target_groups.get(name) else { continue };
        if target_group::balancers(state, group).iter().any(|other| *other != lb.name) {
            let message = format!(
                "The following target groups cannot be associated with more than one load \
                 balancer: {}",
                account.target_group(group)
            );
            return Err(Error::new("TargetGroupAssociationLimitException", message));
        }
    }
    Ok(())
}

fn bind(binder: &Binder, lb: &LoadBalancer, listener: &Listener) -> Result<(), Error> {
    let address = SocketAddr::new(lb.address, listener.key.port);
    let transport = RoutedListener::transport(listener.protocol);
    (binder.api.bind)(SocketKey { address, transport }, &binder.claims)
        .map_err(|error| Error::new("InvalidConfigurationRequestException", error.to_string()))
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        load_balancer_arn: Option<String>,
        listener_arns: Option<Vec<String>>,
        marker: Option<String>,
        page_size: Option<usize>,
    }
    let asked: Asked = input.read()?;
    let (state, account) = (call.state(), call.account());
    let mut rows: Vec<Arc<Listener>> = match (&asked.load_balancer_arn, &asked.listener_arns) {
        (Some(arn), None) => {
            let lb = find::load_balancer(&state, account, arn)?;
            find::listeners(&state, &lb.name).cloned().collect()
        }
        (None, Some(arns)) => {
            let find = |arn: &String| Ok(find::listener(&state, account, arn)?.1);
            arns.iter().map(find).collect::<Result<_, Error>>()?
        }
        _ => {
            let message = "You must specify either listener ARNs or a load balancer ARN";
            return Err(Error::invalid(message));
        }
    };
    let key =
        |row: &Arc<Listener>| format!("{}:{:05}", row.key.load_balancer.as_str(), row.key.port);
    rows.sort_by_key(key);
    let size = asked.page_size.unwrap_or(PAGE);
    let (rows, next) = page(rows, key, asked.marker.as_deref(), size).map_err(marker)?;
    let shown: Vec<Value> = rows.iter().map(|row| shown(&state, account, row)).collect();
    Ok(json!({"Listeners": shown, "NextMarker": next}))
}

/// As the API shows it.
fn shown(state: &State, account: &Account, listener: &Listener) -> Value {
    let lb = state.load_balancers.get(&listener.key.load_balancer);
    let own = lb.map(|lb| account.listener(lb, &listener.key, &listener.id).to_string());
    let default = action::shown(state, account, &action::Meant::of_default(listener));
    let mut shown = json!({
        "ListenerArn": own,
        "LoadBalancerArn": lb.map(|lb| account.load_balancer(lb).to_string()),
        "Port": listener.key.port,
        "Protocol": listener.protocol.as_str(),
        "DefaultActions": default,
    });
    certificate::show(state, account, listener, &mut shown);
    shown
}

pub(super) fn describe_attributes(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let (_, listener) = find::listener(&call.state(), call.account(), &asked.listener_arn)?;
    Ok(json!({"Attributes": TABLE.shown(&listener)}))
}

pub(super) async fn modify(call: &Call, input: Input) -> Outcome {
    let asked: Modify = input.read()?;
    let modified = binding(call, move |tx, binder| change(tx, binder, &asked)).await?;
    Ok(json!({"Listeners": [shown(&call.state(), call.account(), &modified)]}))
}

fn change(tx: &mut Tx<'_>, binder: &Binder, asked: &Modify) -> Result<Listener, Error> {
    let (state, account) = (tx.state(), &binder.account);
    let (lb, listener) = find::listener(state, account, &asked.listener_arn)?;
    let mut new = Listener::clone(&listener);
    if let Some(protocol) = asked.protocol.as_deref() {
        new.protocol = self::protocol(lb.kind, protocol)?;
    }
    new.key.port = asked.port.unwrap_or(new.key.port);
    let secure = certificate::Asked {
        certificates: asked.certificates.as_deref(),
        ssl_policy: asked.ssl_policy.as_deref(),
        alpn_policy: asked.alpn_policy.as_deref(),
        mutual: asked.mutual_authentication.as_ref(),
    };
    let current = listener.options.tls.as_ref();
    new.options.tls = certificate::meaning((state, account), new.protocol, current, &secure)?;
    if let Some(actions) = &asked.default_actions {
        let old = listener.options.authentication.as_ref();
        let meant = action::meaning(state, account, new.protocol, actions, old)?;
        associate(state, account, &lb, &meant.action)?;
        (new.default_action, new.options.order) = (meant.action, meant.order);
        new.options.stickiness = meant.stickiness;
        new.options.authentication = meant.authentication;
    }
    let weights = new.key == listener.key
        && new.protocol == listener.protocol
        && new.options.tls == listener.options.tls
        && new.options.stickiness == listener.options.stickiness
        && new.options.authentication == listener.options.authentication
        && action::differs_in_weights_only(&listener.default_action, &new.default_action);
    if !weights {
        own(listener.owner, "listener", &listener.key)?;
    }
    if new.key != listener.key {
        if state.listeners.contains_key(&new.key) {
            return Err(duplicate(&lb, account));
        }
        bind(binder, &lb, &new)?;
        tx.remove(Key::Listener(listener.key.clone()));
    }
    tx.put(new.clone());
    Ok(new)
}

pub(super) async fn modify_attributes(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        listener_arn: String,
        attributes: Vec<Given>,
    }
    let asked: Asked = input.read()?;
    let account = call.account().clone();
    let modified = find::change(call, move |tx| {
        let (_, listener) = find::listener(tx.state(), &account, &asked.listener_arn)?;
        own(listener.owner, "listener", &listener.key)?;
        let mut listener = Listener::clone(&listener);
        TABLE.modify(&mut listener, &asked.attributes)?;
        tx.put(listener.clone());
        Ok(listener)
    });
    Ok(json!({"Attributes": TABLE.shown(&modified.await?)}))
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: One = input.read()?;
    let account = call.account().clone();
    find::change(call, move |tx| {
        let (lb, listener) = find::listener(tx.state(), &account, &asked.listener_arn)?;
        own(listener.owner, "listener", &listener.key)?;
        remove(tx, &account, &lb, &listener);
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

/// Removes a listener with its rules and all their tags.
pub(super) fn remove(tx: &mut Tx<'_>, account: &Account, lb: &LoadBalancer, listener: &Listener) {
    let rules = listener.rules.iter().map(|rule| rule.id.clone());
    for id in rules.chain([default_rule_id(&listener.id)]) {
        tags::forget(tx, &account.rule(lb, &listener.id, &id));
    }
    tags::forget(tx, &account.listener(lb, &listener.key, &listener.id));
    tx.remove(Key::Listener(listener.key.clone()));
}
