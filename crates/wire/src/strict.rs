//! Strict decoding: one message has one encoding.

use prost::Message;

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, or not this message.
    #[error("the bytes are not a {message} message")]
    Malformed {
        /// The message that was expected.
        message: &'static str,
    },
    /// Protobuf, but not its canonical encoding: a field unknown to this version, fields out of
    /// order, a default value spelled out or a field twice.
    #[error(
        "the bytes are not the canonical encoding of a {message} message (or come from a newer version)"
    )]
    NotCanonical {
        /// The message that was expected.
        message: &'static str,
    },
}

/// Decodes bytes that are the canonical encoding of a message, and no others.
///
/// prost skips unknown fields and takes fields in any order; encoding again and comparing refuses
/// both, so that what was signed, digested or authorised is what was understood.
///
/// # Errors
/// [`DecodeError`].
pub fn decode<M: Message + Default>(message: &'static str, bytes: &[u8]) -> Result<M, DecodeError> {
    let decoded = M::decode(bytes).map_err(|_| DecodeError::Malformed { message })?;
    if decoded.encoded_len() != bytes.len() || decoded.encode_to_vec() != bytes {
        return Err(DecodeError::NotCanonical { message });
    }
    Ok(decoded)
}

/// The canonical encoding of a message.
#[must_use]
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Signature;

    #[test]
    fn unknown_fields_order_and_spelled_out_defaults_are_refused() {
        let good = encode(&Signature { key: vec![1], signature: vec![2] });
        assert!(decode::<Signature>("Signature", &good).is_ok());

        let unknown = [good.as_slice(), &[0x1a, 1, 9]].concat();
        let swapped = vec![0x12, 1, 2, 0x0a, 1, 1];
        let default = vec![0x0a, 1, 1, 0x12, 0];
        for bytes in [unknown, swapped, default] {
            assert_eq!(
                decode::<Signature>("Signature", &bytes),
                Err(DecodeError::NotCanonical { message: "Signature" })
            );
        }
        assert_eq!(
            decode::<Signature>("Signature", &[0xff]),
            Err(DecodeError::Malformed { message: "Signature" })
        );
    }
}
