//! The Connect protocol's unary form (<https://connectrpc.com/docs/protocol>): where requests go, what
//! they may be encoded in, and how a refusal looks.

use bytes::Bytes;
use data_encoding::{BASE64_NOPAD, HEXLOWER};
use http::header::{
    ACCEPT, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use quorate_node::{AuditPlace, METHODS, Outcome, REQUEST_ID_BYTES, Reply};
use quorate_wire::proto::v1::{AuditReceipt, Refusal};
use quorate_wire::{Category, RefusalCode, Versions, WireVersion, strict};
use serde::Serialize;

/// The service's path.
const SERVICE: &str = "/quorate.v1.Node/";

const PROTO: HeaderValue = HeaderValue::from_static("application/proto");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// Where the audit record of a request is: an `AuditReceipt` in base64.
const AUDIT: HeaderName = HeaderName::from_static("quorate-audit");
/// The version that a request is written in; the first where it is absent.
const VERSION: HeaderName = HeaderName::from_static("quorate-version");
/// The versions that the node speaks, in every reply: `1`, or `1-2`.
const VERSIONS: HeaderName = HeaderName::from_static("quorate-versions");
/// What a client calls the requests by that it makes of several nodes for one purpose.
const REQUEST: HeaderName = HeaderName::from_static("quorate-request");
const PROTOCOL_VERSION: &str = "connect-protocol-version";

/// How a message is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Proto,
    Json,
}

/// A request whose head is right: which method, in which encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: &'static str,
    pub(crate) codec: Codec,
    /// What the request is written in; perhaps nothing that is spoken here.
    pub(crate) version: WireVersion,
    /// What the client calls the request, where it does.
    pub(crate) request_id: Option<[u8; REQUEST_ID_BYTES]>,
}

/// A head that is wrong. What the answer to it must be, Connect says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// Not a path of this service.
    Path,
    /// Not `POST`.
    Verb,
    /// A content type that is not spoken.
    ContentType,
    /// A version of the Connect protocol that is not spoken.
    Version,
    /// A compression that is not spoken.
    Compression,
    /// A request's name that is none, or two of them.
    RequestId,
    /// A request's version that is no number, or two of them.
    WireVersion,
}

pub(crate) fn head(verb: &Method, path: &str, headers: &HeaderMap) -> Result<Head, BadHead> {
    let name = path.strip_prefix(SERVICE).ok_or(BadHead::Path)?;
    let method = METHODS.into_iter().find(|known| *known == name).ok_or(BadHead::Path)?;
    if verb != Method::POST {
        return Err(BadHead::Verb);
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (kind, parameters) = match content_type.unwrap_or_default().split_once(';') {
        Some((kind, parameters)) => (kind.trim(), parameters.trim()),
        None => (content_type.unwrap_or_default().trim(), ""),
    };
    let codec = if kind.eq_ignore_ascii_case("application/proto") && parameters.is_empty() {
        Codec::Proto
    } else if kind.eq_ignore_ascii_case("application/json")
        && (parameters.is_empty() || parameters.eq_ignore_ascii_case("charset=utf-8"))
    {
        Codec::Json
    } else {
        return Err(BadHead::ContentType);
    };
    if headers.get(PROTOCOL_VERSION).is_some_and(|version| version != "1") {
        return Err(BadHead::Version);
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(BadHead::Compression);
    }
    let version = version(headers).ok_or(BadHead::WireVersion)?;
    let request_id = request_id(headers).ok_or(BadHead::RequestId)?;
    Ok(Head { method, codec, version, request_id })
}

/// The version that a request is written in: a number, once; or the first, where nothing is said.
fn version(headers: &HeaderMap) -> Option<WireVersion> {
    let mut values = headers.get_all(VERSION).iter();
    let Some(value) = values.next() else { return Some(WireVersion::FIRST) };
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()?.parse().ok()
}

/// Says which versions are spoken here, so that a client learns of it with any reply.
pub(crate) fn add_versions(response: &mut Response<Full<Bytes>>) {
    if let Ok(value) = HeaderValue::from_str(&Versions::SPOKEN.to_string()) {
        response.headers_mut().insert(VERSIONS, value);
    }
}

/// What the client calls the request: 32 lower-case hexadecimal digits, or nothing. Nothing else gets into the audit
/// log by this way.
fn request_id(headers: &HeaderMap) -> Option<Option<[u8; REQUEST_ID_BYTES]>> {
    let mut values = headers.get_all(REQUEST).iter();
    let Some(value) = values.next() else { return Some(None) };
    if values.next().is_some() {
        return None;
    }
    let mut id = [0; REQUEST_ID_BYTES];
    let digits = value.as_bytes();
    if digits.len() != 2 * REQUEST_ID_BYTES || HEXLOWER.decode_mut(digits, &mut id).is_err() {
        return None;
    }
    Some(Some(id))
}

impl BadHead {
    pub(crate) fn response(&self) -> Response<Full<Bytes>> {
        match self {
            Self::Path => error(
                StatusCode::NOT_FOUND,
                "unimplemented",
                "there is no such method; see spec/node-protocol.md",
                None,
            ),
            Self::Verb => {
                let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                response
            }
            Self::ContentType => {
                let mut response = empty(StatusCode::UNSUPPORTED_MEDIA_TYPE);
                let spoken = HeaderValue::from_static("application/proto, application/json");
                response.headers_mut().insert(ACCEPT_POST, spoken.clone());
                response.headers_mut().insert(ACCEPT, spoken);
                response
            }
            Self::Version => error(
                StatusCode::BAD_REQUEST,
                "invalid_argument",
                "connect-protocol-version must be \"1\"",
                None,
            ),
            Self::Compression => error(
                StatusCode::NOT_IMPLEMENTED,
                "unimplemented",
                "requests are sent uncompressed: supported encodings are identity",
                None,
            ),
            Self::RequestId => error(
                StatusCode::BAD_REQUEST,
                "invalid_argument",
                "quorate-request has 32 lower-case hexadecimal digits, and is there once at most",
                None,
            ),
            Self::WireVersion => error(
                StatusCode::BAD_REQUEST,
                "invalid_argument",
                "quorate-version is a number from 1 on, and is there once at most",
                None,
            ),
        }
    }
}

/// Connect's code and HTTP status for each kind of refusal.
const fn code(category: Category) -> (&'static str, StatusCode) {
    match category {
        Category::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
        Category::Denied => ("permission_denied", StatusCode::FORBIDDEN),
        Category::NotFound => ("not_found", StatusCode::NOT_FOUND),
        Category::Invalid => ("invalid_argument", StatusCode::BAD_REQUEST),
        Category::Conflict => ("failed_precondition", StatusCode::BAD_REQUEST),
        Category::Exhausted => ("resource_exhausted", StatusCode::TOO_MANY_REQUESTS),
        Category::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<[Detail<'a>; 1]>,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
    /// The same for people.
    debug: &'a Refusal,
}

fn error(
    status: StatusCode,
    code: &str,
    message: &str,
    refusal: Option<&Refusal>,
) -> Response<Full<Bytes>> {
    let details = refusal.map(|refusal| {
        let value = BASE64_NOPAD.encode(&strict::encode(refusal));
        [Detail { kind: "quorate.v1.Refusal", value, debug: refusal }]
    });
    // Texts and numbers alone: JSON can say all of it.
    let body = serde_json::to_vec(&ErrorBody { code, message, details }).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// A refusal on the wire.
pub(crate) fn refusal(refusal: &Refusal) -> Response<Full<Bytes>> {
    let known = RefusalCode::from_code(&refusal.code);
    let (code, status) = code(known.map_or(Category::Unavailable, RefusalCode::category));
    error(status, code, &refusal.message, Some(refusal))
}

/// Says where the request's audit record is.
pub(crate) fn add_receipt(response: &mut Response<Full<Bytes>>, place: &AuditPlace) {
    let receipt = AuditReceipt {
        index: place.index,
        leaf_hash: place.leaf.as_bytes().to_vec(),
        checkpoint: place.head.checkpoint.as_deref().unwrap_or_default().to_vec(),
    };
    let value = BASE64_NOPAD.encode(&strict::encode(&receipt));
    // Base64 is a header's value always.
    if let Ok(mut value) = HeaderValue::from_str(&value) {
        // Never the same twice: no use in anybody's table of headers.
        value.set_sensitive(true);
        response.headers_mut().insert(AUDIT, value);
    }
}

/// An outcome on the wire.
pub(crate) fn response(outcome: &Outcome, codec: Codec) -> Response<Full<Bytes>> {
    match outcome {
        Ok(reply) => success(reply, codec),
        Err(refused) => refusal(refused),
    }
}

fn success(reply: &Reply, codec: Codec) -> Response<Full<Bytes>> {
    let (kind, body) = match codec {
        Codec::Proto => (PROTO, reply.encode()),
        Codec::Json => match reply.encode_json() {
            Ok(body) => (JSON, body),
            Err(_) => {
                let text = "the reply has no JSON form; ask for application/proto";
                return error(StatusCode::INTERNAL_SERVER_ERROR, "internal", text, None);
            }
        },
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn heads() {
        let path = "/quorate.v1.Node/Info";
        let of = |verb: Method, path: &str, pairs: &[(&'static str, &'static str)]| {
            head(&verb, path, &headers(pairs))
        };
        let json = ("content-type", "application/json");
        assert_eq!(
            of(Method::POST, path, &[("content-type", "application/proto")]),
            Ok(Head {
                method: "Info",
                codec: Codec::Proto,
                version: WireVersion::FIRST,
                request_id: None
            })
        );
        let utf8 = ("content-type", "Application/JSON; charset=UTF-8");
        assert_eq!(
            of(Method::POST, path, &[utf8, ("connect-protocol-version", "1")]),
            Ok(Head {
                method: "Info",
                codec: Codec::Json,
                version: WireVersion::FIRST,
                request_id: None
            })
        );
        assert_eq!(of(Method::POST, "/quorate.v1.Node/info", &[json]), Err(BadHead::Path));
        assert_eq!(of(Method::POST, "/quorate.v1.Node/Info/", &[json]), Err(BadHead::Path));
        assert_eq!(of(Method::POST, "/", &[json]), Err(BadHead::Path));
        assert_eq!(of(Method::GET, path, &[json]), Err(BadHead::Verb));
        assert_eq!(of(Method::POST, path, &[]), Err(BadHead::ContentType));
        let grpc = ("content-type", "application/grpc");
        assert_eq!(of(Method::POST, path, &[grpc]), Err(BadHead::ContentType));
        let version = ("connect-protocol-version", "2");
        assert_eq!(of(Method::POST, path, &[json, version]), Err(BadHead::Version));
        let gzip = ("content-encoding", "gzip");
        assert_eq!(of(Method::POST, path, &[json, gzip]), Err(BadHead::Compression));
    }

    /// What a client calls its request is exactly 16 bytes, once; anything else is refused and written nowhere.
    #[test]
    fn names_of_requests_are_bounded() {
        let path = "/quorate.v1.Node/Info";
        let json = ("content-type", "application/json");
        let named = |names: &[&'static str]| {
            let mut all = headers(&[json]);
            for name in names {
                all.append("quorate-request", HeaderValue::from_static(name));
            }
            head(&Method::POST, path, &all).map(|head| head.request_id)
        };
        let name = "00112233445566778899aabbccddeeff";
        assert_eq!(named(&[]), Ok(None));
        assert_eq!(named(&[name]).unwrap().unwrap()[15], 0xff);
        let long = "00112233445566778899aabbccddeeff00";
        for bad in [
            "",
            "0011",
            long,
            "00112233445566778899AABBCCDDEEFF",
            "x0112233445566778899aabbccddeeff",
        ] {
            assert_eq!(named(&[bad]), Err(BadHead::RequestId), "{bad}");
        }
        assert_eq!(named(&[name, name]), Err(BadHead::RequestId));
    }

    /// A request has one version, which is a number; one that is not spoken is none of the head's business.
    #[test]
    fn versions_of_requests() {
        let path = "/quorate.v1.Node/Info";
        let said = |versions: &[&'static str]| {
            let mut all = headers(&[("content-type", "application/json")]);
            for version in versions {
                all.append("quorate-version", HeaderValue::from_static(version));
            }
            head(&Method::POST, path, &all).map(|head| head.version.get())
        };
        assert_eq!((said(&[]), said(&["1"]), said(&["99"])), (Ok(1), Ok(1), Ok(99)));
        for bad in ["", "0", "01", "1-2", "-1", "4294967296", "one"] {
            assert_eq!(said(&[bad]), Err(BadHead::WireVersion), "{bad}");
        }
        assert_eq!(said(&["1", "1"]), Err(BadHead::WireVersion));
    }

    #[test]
    fn every_code_has_a_status() {
        for known in RefusalCode::ALL {
            let message = known.message("why".to_owned(), quorate_types::UnixSeconds(1));
            let status = refusal(&message).status();
            assert!(status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
