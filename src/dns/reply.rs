//! Where hickory's answer goes: into a buffer that the socket's loop sends.
//!
//! **Invariant:** what comes out is never longer than the client can take.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hickory_server::net::NetError;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::rr::Record;
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;

use super::{UDP_PAYLOAD, UDP_PAYLOAD_WITHOUT_EDNS};

/// The most bytes that the client takes: over UDP what it says, at most what we say.
pub(super) fn limit(request: &Request) -> u16 {
    match request.protocol() {
        Protocol::Udp => request.edns.as_ref().map_or(UDP_PAYLOAD_WITHOUT_EDNS, |edns| {
            // RFC 6891 section 6.2.3: less than 512 means 512.
            edns.max_payload().clamp(UDP_PAYLOAD_WITHOUT_EDNS, UDP_PAYLOAD)
        }),
        _ => u16::MAX,
    }
}

/// Takes one answer. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    limit: u16,
    /// Locked twice per answer, by one thread: hickory's trait asks for clones that may be
    /// anywhere.
    bytes: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Reply {
    pub(super) fn new(limit: u16) -> Self {
        Self { limit, bytes: Arc::default() }
    }

    pub(super) fn take(&self) -> Option<Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl ResponseHandler for Reply {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(usize::from(UDP_PAYLOAD_WITHOUT_EDNS));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.limit);
        let info = response.destructive_emit(&mut encoder)?;
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
        Ok(info)
    }
}
