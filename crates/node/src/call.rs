//! Requests as the core sees them, and what it answers.

use quorate_authz::Caller;
use quorate_types::UnixSeconds;
use quorate_wire::proto::v1;
use quorate_wire::{RefusalCode, Versioned, WireVersion, strict};

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
    CeremonyBatch(v1::CeremonyBatchRequest),
    ReshareState(v1::ReshareStateRequest),
    ReshareOpen(v1::ReshareOpenRequest),
    ReshareDeal(v1::ReshareDealRequest),
    ReshareSign(v1::ReshareSignRequest),
    GetAudit(v1::GetAuditRequest),
    GetProof(v1::GetProofRequest),
    PutMarks(v1::PutMarksRequest),
    GetUsage(v1::GetUsageRequest),
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
    CeremonyBatch(v1::CeremonyBatchReply),
    ReshareState(v1::ReshareStateReply),
    ReshareOpen(v1::ReshareOpenReply),
    ReshareDeal(v1::ReshareDealReply),
    ReshareSign(v1::ReshareSignReply),
    GetAudit(v1::GetAuditReply),
    GetProof(v1::GetProofReply),
    PutMarks(v1::PutMarksReply),
    GetUsage(v1::GetUsageReply),
}

/// What the core answers: a reply, or a refusal with its stable code and its texts.
pub type Outcome = Result<Reply, Box<v1::Refusal>>;

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
            Self::CeremonyBatch(_) => "CeremonyBatch",
            Self::ReshareState(_) => "ReshareState",
            Self::ReshareOpen(_) => "ReshareOpen",
            Self::ReshareDeal(_) => "ReshareDeal",
            Self::ReshareSign(_) => "ReshareSign",
            Self::GetAudit(_) => "GetAudit",
            Self::GetProof(_) => "GetProof",
            Self::PutMarks(_) => "PutMarks",
            Self::GetUsage(_) => "GetUsage",
        }
    }
}

/// Why a request's body is not one of the method it was sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFailure {
    /// No such method.
    #[error("this node knows no method of that name")]
    Method,
    /// The body is not the canonical encoding of the method's request.
    #[error(transparent)]
    Body(#[from] strict::DecodeError),
    /// The body is not the JSON form of the method's request.
    #[error("the body is not the JSON form of a {method} request: {reason}")]
    Json {
        /// The method.
        method: &'static str,
        /// Where the JSON stops making sense.
        reason: String,
    },
}

impl DecodeFailure {
    /// The code that the shell refuses with.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Method => RefusalCode::MethodUnknown,
            Self::Body(_) | Self::Json { .. } => RefusalCode::Malformed,
        }
    }
}

macro_rules! decoders {
    ($($method:ident, $message:ident;)*) => {
        /// Every method that can be decoded, by the name it has in the URL.
        pub const METHODS: [&str; [$(stringify!($method)),*].len()] = [$(stringify!($method)),*];

        impl Request {
            /// A request from its canonical protobuf encoding in the first version.
            ///
            /// # Errors
            /// As [`Self::decode_in`].
            pub fn decode(method: &str, body: &[u8]) -> Result<Self, DecodeFailure> {
                Self::decode_in(WireVersion::FIRST, method, body)
            }

            /// A request from its canonical protobuf encoding in a version. Other encodings of the same
            /// message, and fields of later versions, are refused: what is authorised is what was sent.
            ///
            /// # Errors
            /// [`DecodeFailure`].
            pub fn decode_in(
                version: WireVersion,
                method: &str,
                body: &[u8],
            ) -> Result<Self, DecodeFailure> {
                Ok(match method {
                    $(stringify!($method) => {
                        Self::$method(v1::$message::decode_in(version, body)?)
                    })*
                    _ => return Err(DecodeFailure::Method),
                })
            }

            /// A request from its JSON form (the mapping of the Protocol Buffers documentation), for
            /// people. Unknown fields are refused.
            ///
            /// # Errors
            /// [`DecodeFailure`].
            pub fn decode_json(method: &str, body: &[u8]) -> Result<Self, DecodeFailure> {
                Ok(match method {
                    $(stringify!($method) => Self::$method(
                        serde_json::from_slice::<v1::$message>(body).map_err(|error| {
                            DecodeFailure::Json {
                                method: stringify!($method),
                                reason: error.to_string().chars().take(200).collect(),
                            }
                        })?,
                    ),)*
                    _ => return Err(DecodeFailure::Method),
                })
            }
        }
    };
}
decoders! {
    Info, InfoRequest;
    Status, StatusRequest;
    PutDocuments, PutDocumentsRequest;
    GetDocuments, GetDocumentsRequest;
    GetKey, GetKeyRequest;
    ListKeys, ListKeysRequest;
    Evaluate, EvaluateRequest;
    DkgOpen, DkgOpenRequest;
    DkgDeal, DkgDealRequest;
    DkgSign, DkgSignRequest;
    DkgSignature, DkgSignatureRequest;
    PutCertificate, PutCertificateRequest;
    CeremonyBatch, CeremonyBatchRequest;
    ReshareState, ReshareStateRequest;
    ReshareOpen, ReshareOpenRequest;
    ReshareDeal, ReshareDealRequest;
    ReshareSign, ReshareSignRequest;
    GetAudit, GetAuditRequest;
    GetProof, GetProofRequest;
    PutMarks, PutMarksRequest;
    GetUsage, GetUsageRequest;
}

macro_rules! encoders {
    ($($reply:ident),*) => {
        impl Reply {
            /// The canonical protobuf encoding.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$reply(reply) => strict::encode(reply),)* }
            }

            /// The JSON form, for people.
            ///
            /// # Errors
            /// Those of [`serde_json`]; no reply has a value that JSON cannot say.
            pub fn encode_json(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self { $(Self::$reply(reply) => serde_json::to_vec(reply),)* }
            }
        }
    };
}
encoders!(
    Info,
    Status,
    PutDocuments,
    GetDocuments,
    GetKey,
    ListKeys,
    Evaluate,
    DkgOpen,
    DkgDeal,
    DkgSign,
    PutCertificate,
    CeremonyBatch,
    ReshareState,
    ReshareOpen,
    ReshareDeal,
    ReshareSign,
    GetAudit,
    GetProof,
    PutMarks,
    GetUsage
);

/// Bytes of what a client calls the requests by that it makes of several nodes for one purpose.
pub const REQUEST_ID_BYTES: usize = 16;

/// A request and who makes it. `caller` is nobody where the client showed no certificate.
#[derive(Debug, Clone)]
pub struct Call {
    /// The authenticated client key.
    pub caller: Option<Caller>,
    /// What is asked.
    pub request: Request,
    /// What the client calls this request and those that it makes of other nodes for the same purpose. It is
    /// written down, and nothing is decided by it: a client can say anything here.
    pub request_id: Option<[u8; REQUEST_ID_BYTES]>,
}

impl Call {
    /// A call to which its client gave no name.
    #[must_use]
    pub const fn new(caller: Option<Caller>, request: Request) -> Self {
        Self { caller, request, request_id: None }
    }
}

/// A refusal with a message of its own.
pub fn refuse(code: RefusalCode, message: impl Into<String>, now: UnixSeconds) -> Outcome {
    Err(Box::new(code.message(message.into(), now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_decodes_its_own_request_strictly_in_both_encodings() {
        for method in METHODS {
            let empty = Request::decode(method, &[]).unwrap();
            assert_eq!(empty.method(), method);
            assert_eq!(Request::decode_json(method, b"{}").unwrap(), empty);
            let unknown = Request::decode(method, &[0xfa, 0x01, 0x00]).unwrap_err();
            assert_eq!(unknown.code(), RefusalCode::Malformed);
            let field = Request::decode_json(method, br#"{"nothing": 1}"#).unwrap_err();
            assert_eq!(field.code(), RefusalCode::Malformed);
        }
        assert_eq!(Request::decode("Nothing", &[]), Err(DecodeFailure::Method));
        assert_eq!(Request::decode_json("evaluate", b"{}"), Err(DecodeFailure::Method));
    }

    #[test]
    fn json_is_the_same_request() {
        let request = v1::EvaluateRequest {
            node: vec![1; 16],
            action: 2,
            items: vec![v1::Item { nonce: vec![2; 24], created_at: 5, ..v1::Item::default() }],
            ..v1::EvaluateRequest::default()
        };
        let json = serde_json::to_vec(&request).unwrap();
        let decoded = Request::decode_json("Evaluate", &json).unwrap();
        assert_eq!(decoded, Request::decode("Evaluate", &strict::encode(&request)).unwrap());
        let twice = br#"{"action": 2, "action": 3}"#;
        assert!(Request::decode_json("Evaluate", twice).is_err());
        let reply = Reply::Status(v1::StatusReply { keys: 7, ..v1::StatusReply::default() });
        assert_eq!(reply.encode_json().unwrap(), br#"{"keys":"7"}"#);
        assert_eq!(reply.encode(), [0x30, 7]);
    }
}
