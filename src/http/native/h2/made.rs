//! A response's head on its way from a target's lines to HTTP/2's fields.
//!
//! **Invariant:** a target's values are not copied one by one: they lie in one copy of its head.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::super::super::errors::Cause;

#[derive(Debug, Default)]
pub(in super::super) struct Made {
    bytes: Bytes,
    /// Where what was copied lay.
    at: usize,
    response: Option<Response<()>>,
    is_tunnel: bool,
}

impl Made {
    /// What follows is of this head.
    pub(in super::super) fn begin(&mut self, head: &[u8]) {
        self.bytes = Bytes::copy_from_slice(head);
        self.at = head.as_ptr() as usize;
        self.response = None;
    }

    /// # Errors
    /// No status of HTTP.
    pub(in super::super) fn status(&mut self, status: u16) -> Result<(), Cause> {
        self.is_tunnel = status == 101;
        let mut response = Response::new(());
        // RFC 8441, section 5: a tunnel begins with a 200.
        *response.status_mut() = match self.is_tunnel {
            true => StatusCode::OK,
            false => StatusCode::from_u16(status).map_err(|_| Cause::BadResponse)?,
        };
        self.response = Some(response);
        Ok(())
    }

    /// # Errors
    /// It cannot be told in HTTP/2.
    pub(in super::super) fn field(&mut self, field: &httparse::Header<'_>) -> Result<(), Cause> {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let begin = (field.value.as_ptr() as usize).checked_sub(self.at);
        let range = begin.map(|begin| begin..begin + field.value.len());
        let value = match range.filter(|range| range.end <= self.bytes.len()) {
            Some(range) => HeaderValue::from_maybe_shared(self.bytes.slice(range)),
            // It lies elsewhere.
            None => HeaderValue::from_maybe_shared(Bytes::copy_from_slice(field.value)),
        };
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Cause::BadResponse) };
        // It answers a key that the client does not have.
        let is_ours = self.is_tunnel && name == http::header::SEC_WEBSOCKET_ACCEPT;
        if let Some(response) = self.response.as_mut().filter(|_| !is_ours) {
            response.headers_mut().append(name, value);
        }
        Ok(())
    }

    /// One that is not the target's.
    ///
    /// # Errors
    /// It cannot be told in HTTP/2.
    pub(in super::super) fn add(&mut self, name: &str, value: &str) -> Result<(), Cause> {
        let name = HeaderName::from_bytes(name.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) else {
            return Err(Cause::BadResponse);
        };
        if let Some(response) = &mut self.response {
            response.headers_mut().append(name, value);
        }
        Ok(())
    }

    pub(in super::super) fn length(&mut self, length: u64) {
        if let Some(response) = &mut self.response {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
    }

    pub(super) fn put(&mut self, response: Response<()>) {
        self.response = Some(response);
    }

    pub(super) const fn take(&mut self) -> Option<Response<()>> {
        self.response.take()
    }
}
