//! What ceremonies send and receive.

use quorate_types::NodeId;
use quorate_wire::proto::v1;

/// A request of a ceremony.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "one variant a method of spec/proto/quorate/v1/node.proto")]
pub enum Request {
    DkgOpen(v1::DkgOpenRequest),
    DkgDeal(v1::DkgDealRequest),
    DkgSign(v1::DkgSignRequest),
    DkgSignature(v1::DkgSignatureRequest),
    PutCertificate(v1::PutCertificateRequest),
}

impl Request {
    /// The method's name in the URL.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::DkgOpen(_) => "DkgOpen",
            Self::DkgDeal(_) => "DkgDeal",
            Self::DkgSign(_) => "DkgSign",
            Self::DkgSignature(_) => "DkgSignature",
            Self::PutCertificate(_) => "PutCertificate",
        }
    }
}

/// A reply in a ceremony. `DkgSign` answers both `DkgSign` and `DkgSignature`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "one variant a reply of spec/proto/quorate/v1/node.proto")]
pub enum Reply {
    DkgOpen(v1::DkgOpenReply),
    DkgDeal(v1::DkgDealReply),
    DkgSign(v1::DkgSignReply),
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

/// What became of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It counts.
    Taken,
    /// It does not, and the node is to blame.
    Blamed,
    /// It answers nothing that is being waited for: it is a duplicate, belongs to an earlier step, or comes
    /// from a node that was not asked.
    Ignored,
}
