//! COCKTAIL-DKG's Schnorr signatures (section "Schnorr Signature Scheme").
//!
//! Not EdDSA: the challenge is prefixed, and keys are scalars.

use zeroize::Zeroizing;

use super::suite::{SCALAR_BYTES, Suite, is_identity};

/// The deterministic nonce was zero: this key can not sign this message.
///
/// Happens with a chance of 2^-252. The specification's answer is a fresh session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature's nonce came out as zero; start a fresh session")]
pub struct ZeroNonce;

/// `Sign(secret, message)`, with the deterministic nonce of the specification.
///
/// Deterministic on purpose: a node that crashed after signing sends the same bytes again.
///
/// # Errors
/// [`ZeroNonce`].
pub fn sign<S: Suite>(
    secret: &S::Scalar,
    message: &[&[u8]],
) -> Result<S::SignatureBytes, ZeroNonce> {
    let secret_bytes = Zeroizing::new(S::encode_scalar(secret));
    let mut parts: Vec<&[u8]> = vec![secret_bytes.as_slice()];
    parts.extend_from_slice(message);
    let nonce = Zeroizing::new(S::nonce(&parts));
    if *nonce == S::Scalar::from(0) {
        return Err(ZeroNonce);
    }
    let r = S::encode_point(&S::mul_base(&nonce));
    let public = S::encode_point(&S::mul_base(secret));
    let challenge = challenge::<S>(&r, &public, message);
    let z = *nonce + challenge * *secret;
    Ok(S::join_signature(&r, &S::encode_scalar(&z)))
}

/// `Verify(public, signature, message)`.
#[must_use]
pub fn verify<S: Suite>(
    public: &S::Point,
    signature: &S::SignatureBytes,
    message: &[&[u8]],
) -> bool {
    let (r, z) = S::split_signature(signature);
    let challenge = challenge::<S>(&r, &S::encode_point(public), message);
    equation_holds::<S>(public, &r, &z, &challenge)
}

/// Whether `z` and `r` decode strictly, and `z * B = R + challenge * public`.
pub(crate) fn equation_holds<S: Suite>(
    public: &S::Point,
    r: &S::PointBytes,
    z: &[u8; SCALAR_BYTES],
    challenge: &S::Scalar,
) -> bool {
    let (Some(z), Some(r)) = (S::decode_scalar(z), S::decode_point(r)) else {
        return false;
    };
    is_identity::<S>(&(S::double_mul_vartime(&-*challenge, public, &z) - r))
}

fn challenge<S: Suite>(r: &S::PointBytes, public: &S::PointBytes, message: &[&[u8]]) -> S::Scalar {
    let mut parts: Vec<&[u8]> = vec![r.as_ref(), public.as_ref()];
    parts.extend_from_slice(message);
    S::h7(&parts)
}
