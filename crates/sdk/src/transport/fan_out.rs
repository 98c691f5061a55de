//! What a client calls the requests by that it makes of several nodes for one purpose.

use data_encoding::HEXLOWER;
use http::{HeaderName, HeaderValue};

use crate::rng::os_rng;

/// The header in which a request says it.
pub(crate) const REQUEST: HeaderName = HeaderName::from_static("quorate-request");

/// A name of 16 random bytes, the same at all nodes that are asked for one purpose. Nodes write it into their audit
/// logs, so that whoever reads several of them sees which records are of one request. It says nothing else, and
/// nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FanOut([u8; 16]);

impl FanOut {
    /// A new one.
    pub(crate) fn new() -> Self {
        let mut id = [0; 16];
        rand_core::Rng::fill_bytes(&mut os_rng(), &mut id);
        Self(id)
    }

    /// As the header has it.
    pub(crate) fn header(self) -> Option<HeaderValue> {
        HeaderValue::from_str(&HEXLOWER.encode(&self.0)).ok()
    }
}
