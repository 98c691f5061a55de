//! TLS 1.3 to one node: X25519MLKEM768 only, the server's key pinned, the client's own certificate.

use std::sync::Arc;

use quorate_wire::{PublicKey, SigningKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, SignatureScheme,
};
use zeroize::Zeroizing;

/// RFC 8410: `SubjectPublicKeyInfo` of an Ed25519 key, before its 32 bytes.
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];
/// RFC 8410: `OneAsymmetricKey` (version 1) of an Ed25519 key, before its 32-byte seed.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A key could not be brought into a certificate, or TLS could not be set up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("TLS could not be set up: {0}")]
pub struct TlsSetupError(pub(crate) String);

/// The principal's self-signed certificate and its key.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

/// The PKCS #8 form of an Ed25519 key (RFC 8410 section 7), as OpenSSL and curl read it.
pub(crate) fn pkcs8(key: &SigningKey) -> Zeroizing<Vec<u8>> {
    let mut der = Zeroizing::new(Vec::with_capacity(48));
    der.extend_from_slice(&ED25519_PKCS8);
    der.extend_from_slice(key.seed().reveal());
    der
}

/// The seed in a PKCS #8 form that [`pkcs8`] made.
pub(crate) fn seed_of_pkcs8(der: &[u8]) -> Option<&[u8]> {
    der.strip_prefix(&ED25519_PKCS8).filter(|seed| seed.len() == 32)
}

impl ClientIdentity {
    /// A certificate over the principal's key. Nodes look at the key alone: names and dates in a
    /// self-signed certificate say nothing.
    pub(crate) fn new(key: &SigningKey) -> Result<Self, TlsSetupError> {
        let setup = |e: rcgen::Error| TlsSetupError(e.to_string());
        let der = PrivatePkcs8KeyDer::from(pkcs8(key).to_vec());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)
            .map_err(setup)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, key.public().to_string());
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&pair).map_err(setup)?;
        Ok(Self { certificate: certificate.der().clone(), key: der })
    }

    /// The certificate in DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// A TLS configuration for the one node that has the first key. The others are keys that it had.
    pub(crate) fn config_for(
        &self,
        server: PublicKey,
        retired: Vec<PublicKey>,
    ) -> Result<Arc<ClientConfig>, TlsSetupError> {
        let provider = Arc::new(provider());
        let setup = |e: Error| TlsSetupError(e.to_string());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned {
                wanted: [DistinguishedName::in_sequence(&server.relative_distinguished_name())],
                server,
                retired,
                provider,
            }))
            .with_client_auth_cert(
                vec![self.certificate.clone()],
                PrivateKeyDer::Pkcs8(self.key.clone_key()),
            )
            .map_err(setup)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Resumption would save little on connections that stay open, and would skip the
        // certificate on both sides.
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }
}

/// aws-lc-rs with one key exchange: the hybrid one. A node that cannot do it is not talked to.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768],
        ..aws_lc_rs::default_provider()
    }
}

/// Accepts the one key that the roster names, and no certification authority's word.
#[derive(Debug)]
struct Pinned {
    server: PublicKey,
    /// What the node had before: refused like any other, and told apart.
    retired: Vec<PublicKey>,
    /// The key's name, for the node that has several: while it takes another key, it goes on serving
    /// those who know only the one before.
    wanted: [DistinguishedName; 1],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let spki = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let found = spki.strip_prefix(&ED25519_SPKI);
        let is = |key: &PublicKey| found == Some(key.as_bytes().as_slice());
        if is(&self.server) {
            Ok(ServerCertVerified::assertion())
        } else if self.retired.iter().any(is) {
            Err(Error::InvalidCertificate(CertificateError::Revoked))
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.wanted)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
