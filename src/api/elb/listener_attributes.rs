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

const HEADERS: &str = "no header is added to responses yet";

/// A header that is put into responses.
const fn header(key: &'static str) -> Attribute<Listener> {
    Attribute {
        key,
        default: |listener| listener.protocol.is_http().then_some(""),
        values: Values::Text,
        kept: Kept::Fixed(HEADERS),
    }
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
        kept: Kept::Fixed("targets' headers are passed on"),
    },
    header("routing.http.response.strict_transport_security.header_value"),
    header("routing.http.response.access_control_allow_origin.header_value"),
    header("routing.http.response.access_control_allow_methods.header_value"),
    header("routing.http.response.access_control_allow_headers.header_value"),
    header("routing.http.response.access_control_allow_credentials.header_value"),
    header("routing.http.response.access_control_expose_headers.header_value"),
    header("routing.http.response.access_control_max_age.header_value"),
    header("routing.http.response.content_security_policy.header_value"),
    header("routing.http.response.x_content_type_options.header_value"),
    header("routing.http.response.x_frame_options.header_value"),
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
