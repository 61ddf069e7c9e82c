//! Header fields that are put into pingora's requests and responses, and taken out of them.

use http::header::SET_COOKIE;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::super::additions::Additions;
use super::exchange::Exchange;

/// Takes away what `added` hides and puts in what it adds.
pub(super) fn add(response: &mut ResponseHeader, added: &Additions<'_>) -> Result<()> {
    let sets: Vec<_> = response.headers.get_all(SET_COOKIE).iter().cloned().collect();
    let hidden = response.headers.keys().filter(|name| added.hides(name.as_str())).cloned();
    for name in hidden.collect::<Vec<_>>() {
        response.remove_header(&name);
    }
    for (name, value) in added.fields(sets.iter().map(http::HeaderValue::as_bytes)) {
        response.append_header(name.to_owned(), value)?;
    }
    Ok(())
}

/// What a target's response gets on its way to the client.
pub(super) fn add_to_targets(response: &mut ResponseHeader, exchange: &Exchange) -> Result<()> {
    match (&exchange.listener, &exchange.group) {
        (Some(listener), Some(group)) => {
            let added = Additions::new(listener, group, &exchange.bonds);
            add(response, &added.keeping(exchange.refreshed.as_ref()))
        }
        _ => Ok(()),
    }
}

/// Says who asks, or what was shown, in place of what the client says itself in such headers.
pub(super) fn tell(
    request: &mut RequestHeader,
    is_such: fn(&str) -> bool,
    lines: &str,
) -> Result<()> {
    let names = request.headers.keys().filter(|name| is_such(name.as_str()));
    for name in names.cloned().collect::<Vec<_>>() {
        request.remove_header(&name);
    }
    for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
        request.insert_header(name.to_owned(), value)?;
    }
    Ok(())
}
