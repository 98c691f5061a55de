//! TLS client certificates (RFC 8446 section 4.4.2) with Ed25519 keys (RFC 8410).
//!
//! Only the key counts. Names, dates, issuer and extensions of the certificate are nobody's word: a
//! principal's document says who has the key and until when.

use quorate_authz::Caller;
use quorate_wire::PublicKey;
use x509_parser::oid_registry::{OID_SIG_ED25519, Oid};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{AuthenticationError, Evidence};

/// Bytes of a certificate at most: one with an Ed25519 key has a few hundred.
const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// Why a certificate does not name a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not DER of an X.509 certificate, or something after it.
    #[error("it is not an X.509 certificate")]
    Malformed,
    /// Longer than any certificate that is needed here.
    #[error("it has {0} bytes; at most {MAX_CERTIFICATE_BYTES} are taken")]
    TooLong(usize),
    /// A key of another kind.
    #[error("its key is not an Ed25519 key (OID 1.3.101.112) but one of OID {0}")]
    KeyType(String),
    /// An Ed25519 key that is none.
    #[error("its Ed25519 key is not a valid one")]
    Key,
}

pub(crate) fn authenticate(evidence: &Evidence<'_>) -> Result<Option<Caller>, AuthenticationError> {
    let Some(certificate) = evidence.certificate else { return Ok(None) };
    Ok(Some(Caller::authenticated(public_key(certificate)?)))
}

fn public_key(der: &[u8]) -> Result<PublicKey, CertificateError> {
    if der.len() > MAX_CERTIFICATE_BYTES {
        return Err(CertificateError::TooLong(der.len()));
    }
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed);
    }
    let info = certificate.public_key();
    let algorithm: &Oid<'_> = &info.algorithm.algorithm;
    if *algorithm != OID_SIG_ED25519 {
        return Err(CertificateError::KeyType(algorithm.to_id_string()));
    }
    // RFC 8410 section 3: the parameters MUST be absent.
    if info.algorithm.parameters.is_some() || info.subject_public_key.unused_bits != 0 {
        return Err(CertificateError::Malformed);
    }
    PublicKey::from_slice(&info.subject_public_key.data).map_err(|_| CertificateError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SignatureAlgorithm};

    fn certificate(algorithm: &'static SignatureAlgorithm) -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate =
            CertificateParams::new(Vec::<String>::new()).unwrap().self_signed(&key).unwrap();
        (key, certificate.der().to_vec())
    }

    fn of(der: &[u8]) -> Result<Option<Caller>, AuthenticationError> {
        authenticate(&Evidence::certificate(Some(der)))
    }

    fn refused(error: CertificateError) -> Result<Option<Caller>, AuthenticationError> {
        Err(AuthenticationError::Certificate(error))
    }

    #[test]
    fn the_caller_is_the_certificates_key() {
        let (key, der) = certificate(&rcgen::PKCS_ED25519);
        let caller = of(&der).unwrap().unwrap();
        assert_eq!(caller.public_key().as_bytes().as_slice(), key.der_bytes());
        assert_eq!(authenticate(&Evidence::default()), Ok(None));
    }

    /// Fails when the algorithm is not compared (tried): the key then fails as a key, and a 32-byte
    /// key of another kind would pass.
    #[test]
    fn other_kinds_of_keys_are_refused_by_name() {
        let (_, der) = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(of(&der), refused(CertificateError::KeyType("1.2.840.10045.2.1".into())));

        // X25519 has keys of 32 bytes as well: 1.3.101.110 in place of 1.3.101.112.
        let (_, mut der) = certificate(&rcgen::PKCS_ED25519);
        let oid = [0x06, 0x03, 0x2b, 0x65, 0x70];
        let at = |der: &[u8]| der.windows(5).rposition(|w| w == oid).unwrap();
        // The last one is the signature's; the one before it is the key's.
        let last = at(&der);
        let key = at(&der[..last]);
        der[key + 4] = 0x6e;
        assert_eq!(of(&der), refused(CertificateError::KeyType("1.3.101.110".into())));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let (key, der) = certificate(&rcgen::PKCS_ED25519);
        for end in 0..der.len() {
            assert_eq!(of(&der[..end]), refused(CertificateError::Malformed), "at {end}");
        }
        let longer = [der.as_slice(), &[0]].concat();
        assert_eq!(of(&longer), refused(CertificateError::Malformed));
        let much_longer = vec![0x30; MAX_CERTIFICATE_BYTES + 1];
        let length = much_longer.len();
        assert_eq!(of(&much_longer), refused(CertificateError::TooLong(length)));

        // A point of low order in the key's place.
        let mut weak = der.clone();
        let at = der.windows(32).position(|w| w == key.der_bytes()).unwrap();
        weak[at..at + 32].copy_from_slice(&{
            let mut identity = [0; 32];
            identity[0] = 1;
            identity
        });
        assert_eq!(of(&weak), refused(CertificateError::Key));
    }

    /// Remote input never panics, whatever byte of it is changed.
    #[test]
    fn any_changed_byte_gives_a_caller_or_an_error() {
        let (_, der) = certificate(&rcgen::PKCS_ED25519);
        for at in 0..der.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] ^= flip;
                let _ = of(&changed);
            }
        }
    }
}
