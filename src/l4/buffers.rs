//! Buffers of one data thread's flows.
//!
//! A flow holds one per direction only between a read and the end of its write, so idle flows cost
//! none. **Invariant:** at most [`KEPT`] are kept while nobody uses them.

use std::sync::{Mutex, PoisonError};

/// Bytes read at once (ours; a larger one saves no CPU time over loopback).
const BUFFER_BYTES: usize = 64 << 10;
/// Buffers kept for the next flow (ours; 2 MiB per data thread).
const KEPT: usize = 32;

pub(super) type Buffer = Box<[u8]>;

/// Never waited for: all flows of a data thread run on it and hold the lock over no await.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Buffer>>);

impl Buffers {
    pub(super) fn take(&self) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
    }

    pub(super) fn put(&self, buffer: Buffer) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}
