//! TLS 1.3 (RFC 8446) with the node's own key.
//!
//! Clients pin the key that the roster names, so the certificate around it is self-signed and lasts.
//! While one key takes another's place the node has a certificate for each, and shows a client the one that
//! it asks for (RFC 8446 section 4.2.4). Key exchange is X25519MLKEM768 first; X25519 is there for tools such as curl, and the SDK refuses it.

use std::sync::{Arc, PoisonError, RwLock};

use quorate_authn::Evidence;
use quorate_wire::{PublicKey, SigningKey};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

/// RFC 8410 section 7: `OneAsymmetricKey` (version 1) of an Ed25519 key, before its 32-byte seed.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("the TLS certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// The parts do not fit.
    #[error("TLS could not be set up")]
    Setup(#[from] Error),
}

/// The node's TLS keys, and which of them it shows: more than one while one takes another's place.
#[derive(Debug)]
pub(crate) struct Certificates {
    all: Vec<Certificate>,
    /// Which of them may be shown, the one for those who ask for none first.
    shown: RwLock<Vec<usize>>,
}

#[derive(Debug)]
struct Certificate {
    key: PublicKey,
    name: DistinguishedName,
    certified: Arc<CertifiedKey>,
}

impl Certificates {
    /// One certificate for each key; only the first is shown before [`Self::show`] says otherwise.
    /// `hosts` stand in them for clients that insist on names.
    pub(crate) fn new<'a>(
        keys: impl IntoIterator<Item = &'a SigningKey>,
        hosts: &[String],
    ) -> Result<Arc<Self>, TlsError> {
        let provider = provider();
        let all = keys.into_iter().map(|key| certificate(key, hosts, &provider));
        let all = all.collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { all, shown: RwLock::new(vec![0]) }))
    }

    /// Shows these keys from now on, the first to those who ask for none. Changes nothing where the node
    /// has none of them.
    pub(crate) fn show(&self, keys: &[PublicKey]) {
        let place = |key: &PublicKey| self.all.iter().position(|one| one.key == *key);
        let places: Vec<usize> = keys.iter().filter_map(place).collect();
        if !places.is_empty() {
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = places;
        }
    }

    /// The first that the client would accept, of those that are shown.
    fn choose(&self, wanted: Option<&[DistinguishedName]>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let mut shown = shown.iter().filter_map(|place| self.all.get(*place));
        let default = shown.next()?;
        let accepted = wanted.into_iter().flatten().find_map(|name| {
            let is = |one: &&Certificate| one.name.as_ref() == name.as_ref();
            core::iter::once(default).chain(shown.clone()).find(is)
        });
        Some(Arc::clone(&accepted.unwrap_or(default).certified))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.certificate_authorities())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

fn certificate(
    key: &SigningKey,
    hosts: &[String],
    provider: &CryptoProvider,
) -> Result<Certificate, TlsError> {
    let mut pkcs8 = Zeroizing::new(Vec::with_capacity(48));
    pkcs8.extend_from_slice(&ED25519_PKCS8);
    pkcs8.extend_from_slice(key.seed().reveal());
    let der = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)?;
    let mut parameters = rcgen::CertificateParams::new(hosts)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, key.public().to_string());
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let made = parameters.self_signed(&pair)?;
    let certified = CertifiedKey::from_der(
        vec![made.der().clone()],
        PrivateKeyDer::Pkcs8(der.clone_key()),
        provider,
    )?;
    let name = DistinguishedName::in_sequence(&key.public().relative_distinguished_name());
    Ok(Certificate { key: key.public(), name, certified: Arc::new(certified) })
}

/// A server configuration around the node's TLS keys.
pub(crate) fn server_config(
    certificates: Arc<Certificates>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(AnyEd25519 { provider: Arc::clone(&provider) });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // No early data: it can be replayed. No resumption: a resumed connection proves the client's key
    // by an old handshake, and connections stay open long enough to do without.
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Takes any certificate with an Ed25519 key whose private half signed this handshake. Whose key it is,
/// and what it may do, is asked for each request. Clients without a certificate may connect too: `Info`
/// needs none.
#[derive(Debug)]
struct AnyEd25519 {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyEd25519 {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match quorate_authn::authenticate(&Evidence::certificate(Some(end_entity))) {
            Ok(Some(_)) => Ok(ClientCertVerified::assertion()),
            Ok(None) => Err(CertificateError::BadEncoding.into()),
            Err(error) => Err(CertificateError::Other(OtherError(Arc::new(error))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    fn name(key: &SigningKey) -> DistinguishedName {
        DistinguishedName::in_sequence(&key.public().relative_distinguished_name())
    }

    /// Who asks for a key is shown it, while it may be shown; who asks for none, or for one that the node has
    /// not, is shown the present one. Fails when `choose` does not look at what is shown.
    #[test]
    fn a_client_is_shown_the_key_that_it_asks_for_while_it_may_be_shown() {
        let [old, new, strange] = [(); 3].map(|()| SigningKey::generate(&mut UnwrapErr(SysRng)));
        let certificates = Certificates::new([&old, &new], &["a.example".to_owned()]).unwrap();
        let shown = |wanted: Option<&[DistinguishedName]>| {
            let certified = certificates.choose(wanted).unwrap();
            let place = certificates.all.iter().position(|c| Arc::ptr_eq(&c.certified, &certified));
            certificates.all[place.unwrap()].key
        };
        assert_eq!(shown(None), old.public());
        assert_eq!(shown(Some(&[name(&new)])), old.public(), "not shown yet");
        certificates.show(&[new.public(), old.public()]);
        assert_eq!(shown(None), new.public());
        assert_eq!(shown(Some(&[name(&old)])), old.public());
        assert_eq!(shown(Some(&[name(&strange), name(&old), name(&new)])), old.public());
        assert_eq!(shown(Some(&[name(&strange)])), new.public());
        certificates.show(&[new.public()]);
        assert_eq!(shown(Some(&[name(&old)])), new.public(), "retired");
        certificates.show(&[strange.public()]);
        assert_eq!(shown(None), new.public(), "a node always shows a key");
    }

    /// The name that clients ask by is the one in the certificate.
    #[test]
    fn the_name_is_the_certificates_own() {
        let key = SigningKey::generate(&mut UnwrapErr(SysRng));
        let certificates = Certificates::new([&key], &[]).unwrap();
        let der = certificates.all[0].certified.cert[0].to_vec();
        let name = name(&key);
        let found = der.windows(name.as_ref().len()).filter(|part| *part == name.as_ref()).count();
        assert_eq!(found, 2, "issuer and subject");
    }
}
