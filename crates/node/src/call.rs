//! Requests as the core sees them, and what it answers.

use quorate_authz::Caller;
use quorate_types::UnixSeconds;
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;

/// A request of the node protocol, decoded strictly.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "one variant a method of spec/proto/quorate/v1/node.proto")]
pub enum Request {
    Info(v1::InfoRequest),
    Status(v1::StatusRequest),
    PutDocuments(v1::PutDocumentsRequest),
    GetDocuments(v1::GetDocumentsRequest),
    GetKey(v1::GetKeyRequest),
    ListKeys(v1::ListKeysRequest),
    Evaluate(v1::EvaluateRequest),
    DkgOpen(v1::DkgOpenRequest),
    DkgDeal(v1::DkgDealRequest),
    DkgSign(v1::DkgSignRequest),
    DkgSignature(v1::DkgSignatureRequest),
    PutCertificate(v1::PutCertificateRequest),
}

/// What a method answers.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "one variant a method of spec/proto/quorate/v1/node.proto")]
pub enum Reply {
    Info(v1::InfoReply),
    Status(v1::StatusReply),
    PutDocuments(v1::PutDocumentsReply),
    GetDocuments(v1::GetDocumentsReply),
    GetKey(v1::GetKeyReply),
    ListKeys(v1::ListKeysReply),
    Evaluate(v1::EvaluateReply),
    DkgOpen(v1::DkgOpenReply),
    DkgDeal(v1::DkgDealReply),
    DkgSign(v1::DkgSignReply),
    PutCertificate(v1::PutCertificateReply),
}

/// What the core answers: a reply, or a refusal with its stable code and its texts.
pub type Outcome = Result<Reply, Box<v1::Refusal>>;

/// Every method, by the name it has in the URL.
pub const METHODS: [&str; 12] = [
    "Info",
    "Status",
    "PutDocuments",
    "GetDocuments",
    "GetKey",
    "ListKeys",
    "Evaluate",
    "DkgOpen",
    "DkgDeal",
    "DkgSign",
    "DkgSignature",
    "PutCertificate",
];

impl Request {
    /// The method's name in the URL.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Info(_) => "Info",
            Self::Status(_) => "Status",
            Self::PutDocuments(_) => "PutDocuments",
            Self::GetDocuments(_) => "GetDocuments",
            Self::GetKey(_) => "GetKey",
            Self::ListKeys(_) => "ListKeys",
            Self::Evaluate(_) => "Evaluate",
            Self::DkgOpen(_) => "DkgOpen",
            Self::DkgDeal(_) => "DkgDeal",
            Self::DkgSign(_) => "DkgSign",
            Self::DkgSignature(_) => "DkgSignature",
            Self::PutCertificate(_) => "PutCertificate",
        }
    }
}

/// A request and who makes it. `caller` is nobody where the client showed no certificate.
#[derive(Debug, Clone)]
pub struct Call {
    /// The authenticated client key.
    pub caller: Option<Caller>,
    /// What is asked.
    pub request: Request,
}

/// A refusal with a message of its own.
#[must_use]
pub fn refuse(code: RefusalCode, message: impl Into<String>, now: UnixSeconds) -> Outcome {
    Err(Box::new(code.message(message.into(), now)))
}
