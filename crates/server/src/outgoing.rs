//! Replies on their way out: the memory that they take is set aside before they are made, and is free when the last
//! byte has gone to the client or the connection has ended. A client that does not read keeps its own part at most.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use quorate_node::Request;
use quorate_types::limits::MAX_REPLY_BYTES;
use tokio::sync::OwnedSemaphorePermit;

use crate::connect::Codec;
use crate::doors::{InFlight, Uses};
use crate::limits::{BODY_UNIT, MAX_REPLY_MEMORY_PER_CALLER};

/// Bytes that are handed over at once: what a stalled client has taken shows in steps of this.
const CHUNK: usize = 64 * 1024;

/// Bytes for the reply of most methods.
const SHORT: usize = 64 * 1024;

/// For a round of ceremonies with many participants.
const ROUND: usize = 512 * 1024;

/// Bytes around the partial evaluations of a reply.
const AROUND: usize = 1024;

/// Memory of a reply, of its client's and of all.
pub(crate) struct Memory {
    pub(crate) own: OwnedSemaphorePermit,
    pub(crate) all: OwnedSemaphorePermit,
}

/// Units that the largest reply to a request may take.
pub(crate) fn units(request: &Request, codec: Codec) -> u32 {
    let bytes = match request {
        Request::Evaluate(request) => request.items.len().saturating_mul(32).saturating_add(AROUND),
        Request::GetDocuments(_)
        | Request::GetKey(_)
        | Request::ListKeys(_)
        | Request::GetAudit(_) => MAX_REPLY_BYTES,
        Request::Info(_)
        | Request::Status(_)
        | Request::PutDocuments(_)
        | Request::PutCertificate(_)
        | Request::PutMarks(_) => SHORT,
        _ => ROUND,
    };
    units_of(match codec {
        Codec::Proto => bytes,
        // Base64, and the names of fields.
        Codec::Json => bytes.saturating_mul(2),
    })
}

fn units_of(bytes: usize) -> u32 {
    let bytes = bytes.clamp(1, MAX_REPLY_MEMORY_PER_CALLER);
    u32::try_from(bytes.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX)
}

impl Memory {
    /// Keeps what the reply takes, now that it is there. One that is larger than was thought takes more where there
    /// is more.
    fn fit(&mut self, bytes: usize) {
        let units = units_of(bytes) as usize;
        for permit in [&mut self.own, &mut self.all] {
            let has = permit.num_permits();
            if has > units {
                drop(permit.split(has - units));
            } else if let Ok(more) = u32::try_from(units - has)
                && let Ok(more) = Arc::clone(permit.semaphore()).try_acquire_many_owned(more)
            {
                permit.merge(more);
            }
        }
    }
}

/// A reply's bytes, and what lasts as long as they do.
struct Held {
    bytes: Bytes,
    _memory: Option<Memory>,
    _in_flight: InFlight,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A reply's body. Parts of it share what it holds, wherever they wait to be sent.
pub(crate) struct Outgoing {
    rest: Bytes,
    uses: Arc<Uses>,
    begun: bool,
}

impl Outgoing {
    pub(crate) fn new(bytes: Bytes, mut memory: Option<Memory>, mut in_flight: InFlight) -> Self {
        if let Some(memory) = &mut memory {
            memory.fit(bytes.len());
        }
        in_flight.answered();
        let uses = Arc::clone(in_flight.uses());
        let held = Held { bytes, _memory: memory, _in_flight: in_flight };
        Self { rest: Bytes::from_owner(held), uses, begun: false }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        // The first part is asked for before there is anywhere to put it.
        if self.begun {
            self.uses.moved();
        }
        self.begun = true;
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use quorate_wire::proto::v1;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::doors::Doors;
    use crate::lanes::Whose;

    fn memory(all: &Arc<Semaphore>, units: u32) -> Memory {
        let take = || Arc::clone(all).try_acquire_many_owned(units).unwrap();
        Memory { own: take(), all: take() }
    }

    /// What was set aside is free when the last part is gone, wherever it waited, and not before. Fails when the
    /// memory is freed with the body.
    #[tokio::test]
    async fn attack_38_memory_of_a_reply_is_taken_until_its_last_byte_is_gone() {
        let doors = Doors::new();
        let door = doors.enter(Whose::Strangers, [192, 0, 2, 1].into()).unwrap();
        let all = Arc::new(Semaphore::new(1000));
        let bytes = Bytes::from(vec![7; 100 * 1024]);
        let mut body = Outgoing::new(bytes.clone(), Some(memory(&all, 300)), door.uses.begin());
        assert_eq!(all.available_permits(), 800, "what it does not need is given back");
        assert_eq!(body.size_hint().exact(), Some(100 * 1024));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert_eq!([first.clone(), last.clone()].concat(), bytes);
        drop((body, first));
        assert_eq!((all.available_permits(), door.uses.in_flight()), (800, 1));
        assert!(door.uses.stalled_for(Duration::ZERO));
        drop(last);
        assert_eq!((all.available_permits(), door.uses.in_flight()), (1000, 0));
        assert!(!door.uses.stalled_for(Duration::ZERO));

        // An empty one is gone at once, and one that is larger than was thought takes more.
        let empty = Outgoing::new(Bytes::new(), None, door.uses.begin());
        assert!(empty.is_end_stream());
        drop(empty);
        let large = Outgoing::new(bytes, Some(memory(&all, 1)), door.uses.begin());
        assert_eq!(all.available_permits(), 800);
        drop(large);
        assert_eq!((all.available_permits(), door.uses.in_flight()), (1000, 0));
    }

    #[test]
    fn what_is_set_aside_follows_what_is_asked_for() {
        let evaluate = |items| {
            let items = vec![v1::Item::default(); items];
            Request::Evaluate(v1::EvaluateRequest { items, ..v1::EvaluateRequest::default() })
        };
        assert_eq!(units(&evaluate(1), Codec::Proto), 2);
        assert_eq!(units(&evaluate(4096), Codec::Proto), 129);
        assert_eq!(units(&evaluate(4096), Codec::Json), 258);
        let pages = Request::GetAudit(v1::GetAuditRequest::default());
        assert_eq!(units(&pages, Codec::Proto) as usize, MAX_REPLY_BYTES / BODY_UNIT);
    }
}
