//! Load balancers and listeners.
//!
//! Ranges are ALB's and NLB's (their guides' pages on quotas and attributes). A listener may ask
//! for port 0: the system chooses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::kind::Kind;
use super::super::names;
use super::super::place::Place;
use super::super::source::Bad;
use super::super::written::{WrittenBalancer, WrittenListener};
use super::rule::WrittenAction;
use super::{Balancer, Resources, id_of, traffic};
use crate::api::elb::limits::{INSERTED, LONGEST_VALUE, MOST_LISTENERS, MOST_RULES};
use crate::model::{
    CLIENT_KEEP_ALIVE, IDLE_TIMEOUT, Listener, ListenerKey, ListenerOptions, LoadBalancerKind,
    Owner, Protocol, RequestRules, ResponseRules, TCP_IDLE_TIMEOUT,
};

/// ALB: `idle_timeout.timeout_seconds` is at most 4000.
const APPLICATION_IDLE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(4000);
/// NLB: `tcp.idle_timeout.seconds` is at most 6000.
const NETWORK_IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(6000);
/// ALB: `client_keep_alive.seconds` is at most 604800; it begins at 60, which is of no use in a
/// test.
const KEEP_ALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(604_800);

impl Resources {
    pub(super) fn balancers(
        &mut self,
        written: &[WrittenBalancer],
        list: &Place,
    ) -> Result<(), Bad> {
        let mut sockets = Vec::new();
        for (index, balancer) in written.iter().enumerate() {
            self.read_balancer(balancer, &list.index(index), &mut sockets)?;
        }
        Ok(())
    }

    fn read_balancer(
        &mut self,
        written: &WrittenBalancer,
        at: &Place,
        sockets: &mut Vec<(SocketAddr, String)>,
    ) -> Result<(), Bad> {
        names::elb(&written.name).map_err(|reason| Bad::new(&at.key("name"), reason))?;
        if written.name.starts_with("internal-") {
            return Err(Bad::new(&at.key("name"), "must not begin with \"internal-\""));
        }
        self.claim(Kind::LoadBalancer.label(&written.name), &at.key("name"))?;
        if written.address.is_some_and(|address| address.is_multicast()) {
            return Err(Bad::new(&at.key("address"), "must be an address of this machine"));
        }
        let balancer = balancer(written, at)?;
        let list = at.key("listener");
        if written.listener.len() > MOST_LISTENERS {
            return Err(Bad::new(&list, "must be at most 50 listeners"));
        }
        if written.listener.iter().map(|listener| listener.rule.len()).sum::<usize>() > MOST_RULES {
            return Err(Bad::new(&list.key("rule"), "must be at most 100 rules"));
        }
        for (index, listener) in written.listener.iter().enumerate() {
            let at = list.index(index);
            let listener = self.read_listener(listener, &balancer, &at)?;
            self.claim(Kind::Listener.label(&listener.key), &at.key("port"))?;
            if let Some(address) = balancer.address {
                let socket = SocketAddr::new(address, listener.key.port);
                claim_socket(sockets, socket, &listener.key, &at.key("port"))?;
            }
            self.listeners.push(listener);
        }
        self.load_balancers.push(balancer);
        Ok(())
    }

    fn read_listener(
        &self,
        written: &WrittenListener,
        balancer: &Balancer,
        at: &Place,
    ) -> Result<Listener, Bad> {
        let protocol = protocol(written, balancer.kind, at)?;
        let tls = self.listener_tls(written, protocol, at)?;
        if written.carrier.is_some() && !protocol.is_http() {
            return Err(Bad::new(&at.key("carrier"), "belongs to HTTP listeners"));
        }
        let carrier = written.carrier.unwrap_or_default();
        let key = ListenerKey { load_balancer: balancer.name.clone(), port: written.port };
        let id = id_of(&Kind::Listener.label(&key));
        let default = WrittenAction {
            target_group: &written.target_group,
            forward: &written.forward,
            group_stickiness: written.group_stickiness,
            redirect: &written.redirect,
            fixed_response: &written.fixed_response,
        };
        let (default_action, stickiness) = self.action(&default, protocol, at)?;
        let checks = (written.jwt_validation.as_ref(), written.authenticate_oidc.as_ref());
        let authentication = self.authentication(checks, protocol, at)?;
        let own = [
            ("response_headers", !written.response_headers.is_empty()),
            ("server_header", written.server_header.is_some()),
            ("rate_limit", written.rate_limit.is_some()),
            ("compression", written.compression.is_some()),
        ];
        if let Some((key, _)) = own.iter().find(|(_, there)| *there && !protocol.is_http()) {
            return Err(Bad::new(&at.key(key), "belongs to HTTP listeners"));
        }
        let compression = written.compression.as_ref();
        let compression = traffic::compression(compression, carrier, &at.key("compression"))?;
        let responses = ResponseRules { compression, ..responses(written, at)? };
        let rate_limit = traffic::rate_limit(written.rate_limit.as_ref(), &at.key("rate_limit"))?;
        let proxy_protocol = written.proxy_protocol.as_ref();
        let proxy_protocol = traffic::proxy_protocol(proxy_protocol, &at.key("proxy_protocol"))?;
        let list = at.key("rule");
        if !protocol.is_http() && !written.rule.is_empty() {
            return Err(Bad::new(&list.index(0), "a TCP listener has no rules"));
        }
        let mut rules = Vec::new();
        let mut priorities = BTreeSet::new();
        for (index, rule) in written.rule.iter().enumerate() {
            let at = list.index(index);
            let rule = self.rule(rule, &id, (protocol, carrier), &at)?;
            if !priorities.insert(rule.priority) {
                let reason = format!("priority {} is taken by another rule", rule.priority);
                return Err(Bad::new(&at.key("priority"), reason));
            }
            rules.push(rule);
        }
        rules.sort_by_key(|rule| rule.priority);
        let (owner, options) = (
            Owner::File,
            ListenerOptions {
                authentication,
                stickiness,
                tls,
                responses,
                rate_limit,
                proxy_protocol,
                ..Default::default()
            },
        );
        Ok(Listener { key, id, protocol, carrier, rules, default_action, owner, options })
    }
}

/// HTTP and TCP unless it says otherwise.
fn protocol(
    written: &WrittenListener,
    kind: LoadBalancerKind,
    at: &Place,
) -> Result<Protocol, Bad> {
    let (own, word): (&[Protocol], _) = match kind {
        LoadBalancerKind::Application => (&[Protocol::Http, Protocol::Https], "application"),
        LoadBalancerKind::Network => (&[Protocol::Tcp], "network"),
    };
    let protocol = written.protocol.unwrap_or(own[0]);
    if own.contains(&protocol) {
        return Ok(protocol);
    }
    let own: Vec<_> = own.iter().map(|protocol| protocol.as_str()).collect();
    let reason = format!("must be {} in load balancers of type {word}", own.join(" or "));
    Err(Bad::new(&at.key("protocol"), reason))
}

fn balancer(written: &WrittenBalancer, at: &Place) -> Result<Balancer, Bad> {
    let (default, range, most) = match written.kind {
        LoadBalancerKind::Application => (IDLE_TIMEOUT, APPLICATION_IDLE, "4000s"),
        LoadBalancerKind::Network => (TCP_IDLE_TIMEOUT, NETWORK_IDLE, "6000s"),
    };
    let idle_timeout = written.idle_timeout.map_or(default, |time| time.0);
    if !range.contains(&idle_timeout) {
        return Err(Bad::new(&at.key("idle_timeout"), format!("must be 1s to {most}")));
    }
    let keep_alive = written.client_keep_alive.map_or(CLIENT_KEEP_ALIVE, |time| time.0);
    if written.client_keep_alive.is_some() && written.kind == LoadBalancerKind::Network {
        let reason = "belongs to load balancers of type application";
        return Err(Bad::new(&at.key("client_keep_alive"), reason));
    }
    if !KEEP_ALIVE.contains(&keep_alive) {
        return Err(Bad::new(&at.key("client_keep_alive"), "must be 1s to 168h"));
    }
    if written.desync_mitigation_mode.is_some() && written.kind == LoadBalancerKind::Network {
        let reason = "belongs to load balancers of type application";
        return Err(Bad::new(&at.key("desync_mitigation_mode"), reason));
    }
    Ok(Balancer {
        name: written.name.as_str().into(),
        kind: written.kind,
        address: written.address,
        idle_timeout,
        client_keep_alive: keep_alive,
        desync_mitigation_mode: written.desync_mitigation_mode.unwrap_or_default(),
        requests: requests(written, at)?,
    })
}

fn requests(written: &WrittenBalancer, at: &Place) -> Result<RequestRules, Bad> {
    let there = [
        ("xff_header_processing", written.xff_header_processing.is_some()),
        ("xff_client_port", written.xff_client_port.is_some()),
        ("preserve_host_header", written.preserve_host_header.is_some()),
        ("drop_invalid_header_fields", written.drop_invalid_header_fields.is_some()),
    ];
    let given = there.iter().find(|(_, there)| *there);
    if let Some((key, _)) = given.filter(|_| written.kind == LoadBalancerKind::Network) {
        return Err(Bad::new(&at.key(key), "belongs to load balancers of type application"));
    }
    Ok(RequestRules {
        forwarded_for: written.xff_header_processing.unwrap_or_default(),
        client_port: written.xff_client_port.unwrap_or_default(),
        preserve_host: written.preserve_host_header.unwrap_or_default(),
        drop_invalid: written.drop_invalid_header_fields.unwrap_or_default(),
    })
}

/// What becomes of responses' headers.
fn responses(written: &WrittenListener, at: &Place) -> Result<ResponseRules, Bad> {
    let at = at.key("response_headers");
    for (name, value) in &written.response_headers {
        let known = INSERTED.contains(&name.as_str());
        let visible = value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if !known {
            let reason = format!("{name:?} must be one of {}", INSERTED.join(", "));
            return Err(Bad::new(&at, reason));
        }
        if value.is_empty() || value.len() > LONGEST_VALUE || !visible {
            return Err(Bad::new(&at.key(name), "must be 1 to 1024 visible characters"));
        }
    }
    let insert = written.response_headers.clone();
    let hide_server = written.server_header == Some(false);
    Ok(ResponseRules { hide_server, insert, compression: None })
}

/// Refuses an address and port that another listener binds, be it as a part of "any address".
fn claim_socket(
    sockets: &mut Vec<(SocketAddr, String)>,
    socket: SocketAddr,
    key: &ListenerKey,
    at: &Place,
) -> Result<(), Bad> {
    let any = |address: IpAddr| address.is_unspecified();
    let overlaps = |(other, _): &&(SocketAddr, String)| {
        let same = other.ip() == socket.ip();
        let wide = any(other.ip()) || any(socket.ip());
        socket.port() != 0
            && other.port() == socket.port()
            && (same || wide && other.is_ipv4() == socket.is_ipv4())
    };
    if let Some((_, other)) = sockets.iter().find(overlaps) {
        return Err(Bad::new(at, format!("listener {other} listens on {socket} already")));
    }
    sockets.push((socket, key.to_string()));
    Ok(())
}
