//! The attributes of listeners.
//!
//! Keys, kinds, defaults and values: the API reference of `ListenerAttribute`. Those of HTTPS
//! listeners and of Gateway Load Balancers are not here: such listeners are refused.

use std::time::Duration;

use super::attributes::{Attribute, Kept, Table, Values};
use crate::model::{Listener, Protocol, TCP_IDLE_TIMEOUT};

pub(super) const TABLE: Table<Listener> = Table {
    of: "Listener",
    rows: ROWS,
    stored: |listener| &listener.options.attributes,
    stored_mut: |listener| &mut listener.options.attributes,
};

/// A header that is put into responses: by its attribute's name.
macro_rules! header {
    ($key:literal, $name:literal) => {
        Attribute {
            key: concat!("routing.http.response.", $key, ".header_value"),
            default: |listener| listener.protocol.is_http().then_some(""),
            values: Values::HeaderValue,
            kept: Kept::Honoured(
                |listener| {
                    listener.options.responses.insert.get($name).cloned().unwrap_or_default()
                },
                |listener, value| {
                    let insert = &mut listener.options.responses.insert;
                    match value {
                        "" => insert.remove($name),
                        _ => insert.insert($name.to_owned(), value.to_owned()),
                    };
                },
            ),
        }
    };
}

const ROWS: &[Attribute<Listener>] = &[
    Attribute {
        key: "tcp.idle_timeout.seconds",
        default: |listener| (listener.protocol == Protocol::Tcp).then_some("350"),
        values: Values::Number(60..=6000),
        kept: Kept::Honoured(
            |listener| {
                let time = listener.options.idle_timeout.unwrap_or(TCP_IDLE_TIMEOUT);
                time.as_secs().to_string()
            },
            |listener, value| {
                // Checked before to be a number.
                let seconds = value.parse().unwrap_or_default();
                listener.options.idle_timeout = Some(Duration::from_secs(seconds));
            },
        ),
    },
    Attribute {
        key: "routing.http.response.server.enabled",
        default: |listener| listener.protocol.is_http().then_some("true"),
        values: Values::Flag,
        kept: Kept::Honoured(
            |listener| (!listener.options.responses.hide_server).to_string(),
            |listener, value| listener.options.responses.hide_server = value == "false",
        ),
    },
    header!("strict_transport_security", "Strict-Transport-Security"),
    header!("access_control_allow_origin", "Access-Control-Allow-Origin"),
    header!("access_control_allow_methods", "Access-Control-Allow-Methods"),
    header!("access_control_allow_headers", "Access-Control-Allow-Headers"),
    header!("access_control_allow_credentials", "Access-Control-Allow-Credentials"),
    header!("access_control_expose_headers", "Access-Control-Expose-Headers"),
    header!("access_control_max_age", "Access-Control-Max-Age"),
    header!("content_security_policy", "Content-Security-Policy"),
    header!("x_content_type_options", "X-Content-Type-Options"),
    header!("x_frame_options", "X-Frame-Options"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::attributes::Given;
    use super::super::attributes::tests::keeps_to_the_rules;
    use super::*;
    use crate::model::{Action, Carrier, FixedResponse, ListenerKey, ListenerOptions, Owner};

    fn listener(protocol: Protocol) -> Listener {
        let (content_type, body) = (String::new(), String::new());
        Listener {
            key: ListenerKey { load_balancer: "front".into(), port: 80 },
            id: "0123456789abcdef".into(),
            protocol,
            carrier: Carrier::default(),
            rules: Vec::new(),
            default_action: Action::FixedResponse(FixedResponse {
                status: 200,
                content_type,
                body,
            }),
            owner: Owner::Api,
            options: ListenerOptions::default(),
        }
    }

    #[test]
    fn every_attribute_is_of_some_kind_and_has_a_good_default() {
        keeps_to_the_rules(&TABLE, &[listener(Protocol::Http), listener(Protocol::Tcp)]);
    }

    #[test]
    fn response_headers_are_kept_until_they_are_empty() {
        let key = "routing.http.response.x_frame_options.header_value";
        let mut row = listener(Protocol::Http);
        let mut set = |value: &str| {
            let given = json!([{"Key": key, "Value": value}]);
            let given: Vec<Given> = serde_json::from_value(given).unwrap();
            let outcome = TABLE.modify(&mut row, &given).map_err(|error| error.to_string());
            assert!(
                outcome.is_err()
                    || TABLE.shown(&row).contains(&json!({"Key": key, "Value": value}))
            );
            (outcome, row.options.responses.insert.clone().into_iter().collect::<Vec<_>>())
        };
        assert_eq!(set("DENY"), (Ok(()), vec![("X-Frame-Options".into(), "DENY".into())]));
        assert!(set("a\r\nb: c").0.unwrap_err().contains("visible"));
        assert_eq!(set(""), (Ok(()), Vec::new()));
    }

    #[test]
    fn the_idle_timeout_of_tcp_is_honoured() {
        let check = |protocol, value: &str, expected: Result<Option<u64>, &str>| {
            let mut row = listener(protocol);
            let given = json!([{"Key": "tcp.idle_timeout.seconds", "Value": value}]);
            let given: Vec<Given> = serde_json::from_value(given).unwrap();
            let outcome = TABLE.modify(&mut row, &given).map_err(|error| error.to_string());
            let seconds = row.options.idle_timeout.map(|time| time.as_secs());
            match (outcome, expected) {
                (Ok(()), expected) => assert_eq!(Ok(seconds), expected),
                (Err(error), expected) => assert!(error.contains(expected.unwrap_err())),
            }
        };
        check(Protocol::Tcp, "60", Ok(Some(60)));
        check(Protocol::Tcp, "59", Err("between 60 and 6000"));
        check(Protocol::Http, "60", Err("not supported for this type"));
    }
}
