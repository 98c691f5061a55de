//! Who makes a request: one file for each way to prove it.
//!
//! A method turns what a connection proved into a [`Caller`], the public key that the node's
//! documents know principals by. A new method is one file here, one more field of [`Evidence`] where
//! it needs one, and one line in [`METHODS`].
#![forbid(unsafe_code)]

mod mtls;

use quorate_authz::Caller;

pub use mtls::CertificateError;

/// What a connection and a request show of their sender.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Evidence<'a> {
    /// The client's end-entity certificate (DER), whose private key the TLS 1.3 handshake of this very
    /// connection proved (RFC 8446 section 4.4.3).
    pub certificate: Option<&'a [u8]>,
}

impl<'a> Evidence<'a> {
    /// Nothing but the client's certificate, if it showed one.
    #[must_use]
    pub const fn certificate(certificate: Option<&'a [u8]>) -> Self {
        Self { certificate }
    }
}

/// Why what was shown proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The client certificate is of no use.
    #[error("the client certificate is of no use: {0}")]
    Certificate(#[from] CertificateError),
}

/// One way to prove a key: the caller, or nothing where the evidence is of another kind.
type Method = fn(&Evidence<'_>) -> Result<Option<Caller>, AuthenticationError>;

/// Every way, in the order in which they are tried.
const METHODS: [Method; 1] = [mtls::authenticate];

/// Who the evidence says the sender is; nobody where there is none.
///
/// # Errors
/// [`AuthenticationError`] where there is evidence and it is wrong: nothing else is tried then.
///
/// # Security
/// What is accepted here must be useless at another node. A client certificate is: its proof signs
/// the handshake with this node.
pub fn authenticate(evidence: &Evidence<'_>) -> Result<Option<Caller>, AuthenticationError> {
    for method in METHODS {
        if let Some(caller) = method(evidence)? {
            return Ok(Some(caller));
        }
    }
    Ok(None)
}
