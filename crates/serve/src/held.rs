//! The memory that bodies and results take, limited for the whole server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes that are held.
pub(crate) struct HeldMemory {
    used_bytes: AtomicU64,
    max_bytes: u64,
}

impl HeldMemory {
    pub(crate) fn new(max_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            used_bytes: AtomicU64::new(0),
            max_bytes,
        })
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// A reservation of no bytes, to be grown.
    pub(crate) fn nothing(self: &Arc<Self>) -> Reservation {
        Reservation {
            memory: self.clone(),
            bytes: 0,
        }
    }
}

/// Bytes that count until it is dropped.
pub(crate) struct Reservation {
    memory: Arc<HeldMemory>,
    bytes: u64,
}

impl Reservation {
    /// Reserves more; false if that is above the limit.
    #[must_use]
    pub(crate) fn grow(&mut self, more: u64) -> bool {
        let memory = &*self.memory;
        let grown = |used: u64| {
            let used = used.checked_add(more)?;
            (used <= memory.max_bytes).then_some(used)
        };
        let updated = memory
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown);
        if updated.is_ok() {
            self.bytes += more;
        }
        updated.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory
            .used_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes with their reservation.
pub(crate) struct HeldBytes {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl HeldBytes {
    pub(crate) fn new(bytes: Vec<u8>, reservation: Reservation) -> Self {
        Self {
            bytes,
            _reservation: reservation,
        }
    }
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_end_with_their_owner() {
        let memory = HeldMemory::new(100);
        let mut first = memory.nothing();
        assert!(first.grow(60) && first.grow(40) && !first.grow(1));
        drop(first);
        assert_eq!(memory.used_bytes(), 0);
        assert!(!memory.nothing().grow(u64::MAX));
    }
}
