//! Connect's unary replies: a message, or a JSON error with a refusal in its details.

use bytes::{Bytes, BytesMut};
use data_encoding::{BASE64, BASE64_NOPAD};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use quorate_types::limits::MAX_REPLY_BYTES;
use quorate_wire::proto::v1::Refusal;

use super::UnreachableReason;

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Message(Bytes),
    Refused(Box<Refusal>),
}

/// Connect's error body; what we do not use is left out.
#[derive(serde::Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<ErrorDetail>,
}

#[derive(serde::Deserialize)]
struct ErrorDetail {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    value: String,
}

/// Reads a body of at most [`MAX_REPLY_BYTES`], so that no node can fill the client's memory.
pub(crate) async fn read_body(mut body: Incoming) -> Result<Bytes, UnreachableReason> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| UnreachableReason::Broken(e.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if whole.len().saturating_add(data.len()) > MAX_REPLY_BYTES {
                return Err(UnreachableReason::Protocol(format!(
                    "a reply of more than {MAX_REPLY_BYTES} bytes"
                )));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// What a status, content type and body mean.
pub(crate) fn interpret(
    status: StatusCode,
    content_type: Option<&str>,
    body: Bytes,
) -> Result<Reply, UnreachableReason> {
    if status == StatusCode::OK {
        return match content_type {
            Some("application/proto") => Ok(Reply::Message(body)),
            other => Err(UnreachableReason::Protocol(format!(
                "content type \"{}\"",
                other.unwrap_or_default().chars().take(60).collect::<String>()
            ))),
        };
    }
    let Ok(error) = serde_json::from_slice::<ErrorBody>(&body) else {
        return Err(UnreachableReason::Protocol(format!("HTTP status {}", status.as_u16())));
    };
    let refusal =
        error.details.iter().filter(|detail| detail.kind == "quorate.v1.Refusal").find_map(
            |detail| {
                let text = detail.value.trim_end_matches('=').as_bytes();
                let bytes = BASE64_NOPAD.decode(text).or_else(|_| BASE64.decode(text)).ok()?;
                Refusal::decode(bytes.as_slice()).ok()
            },
        );
    refusal.map(|r| Reply::Refused(Box::new(r))).ok_or_else(|| {
        let message: String = error.message.chars().take(200).collect();
        UnreachableReason::Protocol(format!("error \"{}\": {message}", error.code))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::UnixSeconds;
    use quorate_wire::RefusalCode;

    #[test]
    fn a_refusal_is_read_from_the_details_padded_or_not() {
        let refusal = RefusalCode::NotPermitted.message("no".into(), UnixSeconds(5));
        for encoding in [BASE64, BASE64_NOPAD] {
            let body = serde_json::json!({
                "code": "permission_denied", "message": "no",
                "details": [{"type": "quorate.v1.Refusal", "value": encoding.encode(&refusal.encode_to_vec())}],
            });
            let reply = interpret(
                StatusCode::FORBIDDEN,
                Some("application/json"),
                body.to_string().into_bytes().into(),
            );
            assert_eq!(reply, Ok(Reply::Refused(Box::new(refusal.clone()))));
        }
    }

    #[test]
    fn pages_of_proxies_are_no_answers() {
        let page = interpret(StatusCode::OK, Some("text/html"), Bytes::from_static(b"<html>"));
        assert!(matches!(page, Err(UnreachableReason::Protocol(_))));
        let page = interpret(StatusCode::BAD_GATEWAY, Some("text/html"), Bytes::from_static(b"<"));
        assert_eq!(page, Err(UnreachableReason::Protocol("HTTP status 502".into())));
    }
}
