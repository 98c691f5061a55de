//! What a reshare sends and receives.

use quorate_types::NodeId;
use quorate_wire::proto::v1;

/// A request of a reshare.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "one variant a method of spec/proto/quorate/v1/node.proto")]
pub enum Request {
    State(v1::ReshareStateRequest),
    Open(v1::ReshareOpenRequest),
    Deal(v1::ReshareDealRequest),
    Sign(v1::ReshareSignRequest),
    PutCertificate(v1::PutCertificateRequest),
}

impl Request {
    /// The method's name in the URL.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::State(_) => "ReshareState",
            Self::Open(_) => "ReshareOpen",
            Self::Deal(_) => "ReshareDeal",
            Self::Sign(_) => "ReshareSign",
            Self::PutCertificate(_) => "PutCertificate",
        }
    }
}

/// A reply in a reshare.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "one variant a reply of spec/proto/quorate/v1/node.proto")]
pub enum Reply {
    State(v1::ReshareStateReply),
    Open(v1::ReshareOpenReply),
    Deal(v1::ReshareDealReply),
    Sign(v1::ReshareSignReply),
    PutCertificate(v1::PutCertificateReply),
}

/// A request to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// To whom.
    pub node: NodeId,
    /// What.
    pub request: Request,
}
