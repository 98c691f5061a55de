//! The profile: a directory with the principal's key and what is known of its cluster.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use prost::Message;
use quorate_documents::{Body, Roster, SignedDocument};
use quorate_secret::{Secret, SecretVec, SigningSeed};
use quorate_types::{ClusterId, Digest, KeyId, PrincipalId, TenantId};
use quorate_wire::proto::v1::Envelope;
use quorate_wire::{PublicKey, SigningKey};

use crate::error::{Error, InvitationError, ProfileError};
use crate::invitation::Invitation;
use crate::rng::os_rng;
use crate::transport::{ClientIdentity, pkcs8, seed_of_pkcs8};

const PRINCIPAL_KEY: &str = "principal.key";
const PRINCIPAL_CERTIFICATE: &str = "principal.crt";
const NEXT_KEY: &str = "principal-next.key";
const ADMIN_KEY: &str = "admin.key";
const NEXT_ADMIN_KEY: &str = "admin-next.key";
const FORMER_ADMIN_KEY: &str = "admin-former.key";
const CLUSTER: &str = "cluster.json";
const ALIASES: &str = "aliases.json";
const DOCUMENTS: &str = "documents.json";
/// Bytes of the largest file that a profile holds; a cluster file has one roster of 256 KiB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// An administrator's key: signs rosters, tenants and principals.
#[derive(Debug)]
pub struct AdminKey(SigningKey);

impl AdminKey {
    /// A fresh key.
    #[must_use]
    pub fn generate() -> Self {
        Self(SigningKey::generate(&mut os_rng()))
    }

    /// Reads a key from a file as profiles keep it (`admin.key`): PKCS #8 PEM that nobody but its owner may read.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        read_key(path.as_ref()).map(Self)
    }

    /// A key that was kept elsewhere.
    #[must_use]
    pub const fn from_signing_key(key: SigningKey) -> Self {
        Self(key)
    }

    /// The public key, which rosters and tenants name.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.0.public()
    }

    /// The key itself.
    #[must_use]
    pub const fn signing_key(&self) -> &SigningKey {
        &self.0
    }
}

/// Which cluster a profile belongs to, as what, and the roster that it trusts.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    /// The cluster: the digest of its first roster.
    pub cluster: ClusterId,
    /// The principal's tenant.
    pub tenant: TenantId,
    /// The principal.
    pub principal: PrincipalId,
    /// The newest roster known.
    pub roster: SignedDocument,
}

impl Membership {
    /// What the roster says.
    ///
    /// # Errors
    /// [`InvitationError::Roster`] when the document is none.
    pub fn roster_body(&self) -> Result<&Roster, InvitationError> {
        match self.roster.body() {
            Body::Roster(roster) => Ok(roster),
            _ => Err(InvitationError::Roster("the document is no roster".into())),
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    version: u32,
    cluster: ClusterId,
    tenant: TenantId,
    principal: PrincipalId,
    roster_digest: Digest,
    /// The envelope in protobuf, base64.
    roster: String,
}

/// A profile directory, of mode 0700. Its files are replaced whole, so that a crash leaves the old
/// one or the new one.
///
/// `principal.key` is PKCS #8 PEM (RFC 8410) and `principal.crt` the certificate over it, so that curl
/// can speak to nodes with them.
#[derive(Debug)]
pub struct Profile {
    dir: PathBuf,
    key: SigningKey,
    membership: Option<Membership>,
}

impl Profile {
    /// Makes the directory and a fresh principal key in it.
    ///
    /// # Errors
    /// [`ProfileError::Exists`] when there is a principal key already; it is never replaced.
    pub fn create(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref().to_path_buf();
        if dir.join(PRINCIPAL_KEY).exists() {
            return Err(ProfileError::Exists(dir).into());
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| io_error(&dir, e))?;
        let key = SigningKey::generate(&mut os_rng());
        let path = dir.join(PRINCIPAL_KEY);
        write_new(&path, pem("PRIVATE KEY", &pkcs8(&key)).reveal())?;
        let profile = Self { dir, key, membership: None };
        profile.write_certificate()?;
        Ok(profile)
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// [`ProfileError`]: missing, damaged, or with a key that others may read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref().to_path_buf();
        let path = dir.join(PRINCIPAL_KEY);
        if !path.exists() {
            return Err(ProfileError::Missing(dir).into());
        }
        let key = read_key(&path)?;
        let mut profile = Self { dir, key, membership: None };
        profile.membership = profile.read_membership()?;
        Ok(profile)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The principal's public key, to be told to an administrator.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// The principal's key.
    #[must_use]
    pub const fn principal_key(&self) -> &SigningKey {
        &self.key
    }

    /// The cluster, where the profile has joined one.
    #[must_use]
    pub const fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Joins the cluster of an invitation whose fingerprint was told over another channel.
    ///
    /// A profile that has joined this cluster already takes the invitation's roster, tenant and
    /// principal in place of its own.
    ///
    /// # Errors
    /// [`InvitationError`], and [`ProfileError::OtherCluster`].
    ///
    /// # Security
    /// `fingerprint` must not come with the invitation: whoever could change one could change both,
    /// and become this profile's cluster.
    pub fn accept(&mut self, invitation: &Invitation, fingerprint: Digest) -> Result<(), Error> {
        let found = invitation.fingerprint();
        if found != fingerprint {
            return Err(InvitationError::Fingerprint { expected: fingerprint, found }.into());
        }
        let membership = invitation.verify()?;
        if self.membership.as_ref().is_some_and(|old| old.cluster != membership.cluster) {
            return Err(ProfileError::OtherCluster.into());
        }
        write_cluster(&self.dir, &membership)?;
        self.membership = Some(membership);
        Ok(())
    }

    /// Takes a membership over, for a profile that has none yet.
    pub(crate) fn join(&mut self, membership: Membership) -> Result<(), Error> {
        if self.membership.is_some() {
            return Err(ProfileError::OtherCluster.into());
        }
        write_cluster(&self.dir, &membership)?;
        self.membership = Some(membership);
        Ok(())
    }

    /// The key that is to take the place of the principal's: made and kept beside it where there is none yet.
    pub(crate) fn next_key(&self) -> Result<SigningKey, Error> {
        let path = self.dir.join(NEXT_KEY);
        if path.exists() {
            return read_key(&path);
        }
        let key = SigningKey::generate(&mut os_rng());
        write_new(&path, pem("PRIVATE KEY", &pkcs8(&key)).reveal())?;
        Ok(key)
    }

    /// The administrator's key that shall take the present one's place; made where there is none.
    pub(crate) fn next_admin_key(&self) -> Result<AdminKey, Error> {
        let path = self.dir.join(NEXT_ADMIN_KEY);
        if path.exists() {
            return AdminKey::read(&path);
        }
        let key = AdminKey::generate();
        write_new(&path, pem("PRIVATE KEY", &pkcs8(key.signing_key())).reveal())?;
        Ok(key)
    }

    /// Puts the next administrator's key in the place of the present one, which is gone from then on or kept
    /// beside it.
    pub(crate) fn take_next_admin_key(&mut self, keep: bool) -> Result<(), Error> {
        let place = self.dir.join(ADMIN_KEY);
        if keep {
            let former = self.dir.join(FORMER_ADMIN_KEY);
            // A second name: at no moment is there none.
            let _ = fs::remove_file(&former);
            fs::hard_link(&place, &former).map_err(|e| io_error(&former, e))?;
        }
        fs::rename(self.dir.join(NEXT_ADMIN_KEY), &place).map_err(|e| io_error(&place, e))?;
        sync_parent(&place)
    }

    /// Whether a rotation of the principal's key was begun and is not finished.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.dir.join(NEXT_KEY).exists()
    }

    /// Puts the next key in the place of the principal's, which is gone from then on.
    pub(crate) fn take_next_key(&mut self) -> Result<(), Error> {
        let path = self.dir.join(NEXT_KEY);
        self.key = read_key(&path)?;
        let place = self.dir.join(PRINCIPAL_KEY);
        fs::rename(&path, &place).map_err(|e| io_error(&place, e))?;
        sync_parent(&place)?;
        self.write_certificate()
    }

    /// A client as this profile's principal by its next key.
    pub(crate) fn as_next(&self) -> Result<crate::ClientBuilder, Error> {
        let membership = self.membership.clone().ok_or(ProfileError::NotJoined)?;
        Ok(crate::ClientBuilder::new(membership, self.next_key()?))
    }

    /// A client as the principal of an invitation whose fingerprint was told, before anything is kept: with
    /// [`crate::Client::check_own_principal`] it finds out whether the invitation is for this profile's key.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn candidate(
        &self,
        invitation: &Invitation,
        fingerprint: Digest,
    ) -> Result<crate::ClientBuilder, Error> {
        let found = invitation.fingerprint();
        if found != fingerprint {
            return Err(InvitationError::Fingerprint { expected: fingerprint, found }.into());
        }
        let key = SigningKey::from_seed(self.key.seed().duplicate());
        Ok(crate::ClientBuilder::new(invitation.verify()?, key))
    }

    /// Keeps documents of the cluster that were made here: a principal can then be renewed even when nodes
    /// show it nothing any more. They count only as far as they follow from the trusted roster.
    ///
    /// # Errors
    /// [`ProfileError`], and [`InvitationError::Roster`] for a document that does not verify.
    pub fn keep_documents(&self, documents: &[Envelope]) -> Result<(), Error> {
        let mut all = read_kept(&self.dir).unwrap_or_default();
        for envelope in documents {
            let document = SignedDocument::parse(envelope.clone())
                .map_err(|e| InvitationError::Roster(e.to_string()))?;
            if all.iter().all(|known| known.digest() != document.digest()) {
                all.push(document);
            }
        }
        write_kept(&self.dir, all.iter().map(SignedDocument::envelope))
    }

    /// The first roster of the profile's cluster, with which nodes join, where the profile has it.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn first_roster(&self) -> Result<Option<Envelope>, Error> {
        let Some(membership) = &self.membership else { return Ok(None) };
        let first = Digest::from_bytes(*membership.cluster.as_bytes());
        let kept = read_kept(&self.dir)?;
        let known = core::iter::once(&membership.roster).chain(&kept);
        let mut known = known.filter(|d| d.digest() == first);
        Ok(known.next().map(|d| d.envelope().clone()))
    }

    /// The administrator's key of this profile.
    ///
    /// # Errors
    /// [`ProfileError::NoAdminKey`].
    pub fn admin_key(&self) -> Result<AdminKey, Error> {
        let path = self.dir.join(ADMIN_KEY);
        if !path.exists() {
            return Err(ProfileError::NoAdminKey.into());
        }
        Ok(AdminKey(read_key(&path)?))
    }

    /// Keeps an administrator's key in this profile.
    ///
    /// # Errors
    /// [`ProfileError::Exists`] when there is one already; it is never replaced.
    pub fn store_admin_key(&self, key: &AdminKey) -> Result<(), Error> {
        let path = self.dir.join(ADMIN_KEY);
        write_new(&path, pem("PRIVATE KEY", &pkcs8(&key.0)).reveal())
    }

    /// Which keys this profile knows by which alias.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn alias_pins(&self) -> Result<BTreeMap<String, KeyId>, Error> {
        AliasPins::new(&self.dir).read()
    }

    /// Forgets what an alias means, so that the next use pins it anew.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn forget_alias(&self, alias: &str) -> Result<(), Error> {
        let pins = AliasPins::new(&self.dir);
        let mut all = pins.read()?;
        all.remove(alias);
        pins.write(&all)
    }

    fn write_certificate(&self) -> Result<(), Error> {
        let path = self.dir.join(PRINCIPAL_CERTIFICATE);
        let identity = ClientIdentity::new(&self.key)
            .map_err(|e| io_error(&path, io::Error::other(e.to_string())))?;
        write_atomically(&path, pem("CERTIFICATE", identity.certificate()).reveal())
    }

    fn read_membership(&self) -> Result<Option<Membership>, Error> {
        let path = self.dir.join(CLUSTER);
        let Some(bytes) = read_optional(&path)? else { return Ok(None) };
        let damaged = |why| ProfileError::Damaged { path: path.clone(), why };
        let file: ClusterFile =
            serde_json::from_slice(&bytes).map_err(|_| damaged("not a cluster file"))?;
        if file.version != 1 {
            return Err(damaged("an unknown version").into());
        }
        let envelope = BASE64
            .decode(file.roster.as_bytes())
            .ok()
            .and_then(|bytes| Envelope::decode(bytes.as_slice()).ok())
            .ok_or_else(|| damaged("the roster is no envelope"))?;
        let roster =
            SignedDocument::parse(envelope).map_err(|_| damaged("the roster does not verify"))?;
        if roster.digest() != file.roster_digest
            || *roster.id().as_bytes() != *file.cluster.as_bytes()
        {
            return Err(damaged("the roster is another than the one trusted").into());
        }
        Ok(Some(Membership {
            cluster: file.cluster,
            tenant: file.tenant,
            principal: file.principal,
            roster,
        }))
    }
}

pub(crate) fn write_cluster(dir: &Path, membership: &Membership) -> Result<(), Error> {
    let path = dir.join(CLUSTER);
    let file = ClusterFile {
        version: 1,
        cluster: membership.cluster,
        tenant: membership.tenant,
        principal: membership.principal,
        roster_digest: membership.roster.digest(),
        roster: BASE64.encode(&membership.roster.envelope().encode_to_vec()),
    };
    let bytes =
        serde_json::to_vec_pretty(&file).map_err(|e| io_error(&path, io::Error::other(e)))?;
    write_atomically(&path, &bytes)
}

/// The documents that a profile keeps, in the order in which they stand on one another.
pub(crate) fn read_kept(dir: &Path) -> Result<Vec<SignedDocument>, Error> {
    let path = dir.join(DOCUMENTS);
    let Some(bytes) = read_optional(&path)? else { return Ok(Vec::new()) };
    let damaged = |why| ProfileError::Damaged { path: path.clone(), why };
    let envelopes: Vec<Envelope> =
        serde_json::from_slice(&bytes).map_err(|_| damaged("not a list of documents"))?;
    envelopes
        .into_iter()
        .map(|e| SignedDocument::parse(e).map_err(|_| damaged("a document does not verify").into()))
        .collect()
}

/// Replaces the documents that a profile keeps.
pub(crate) fn write_kept<'a>(
    dir: &Path,
    documents: impl Iterator<Item = &'a Envelope>,
) -> Result<(), Error> {
    let path = dir.join(DOCUMENTS);
    let all: Vec<&Envelope> = documents.collect();
    let bytes = serde_json::to_vec(&all).map_err(|e| io_error(&path, io::Error::other(e)))?;
    write_atomically(&path, &bytes)
}

/// What aliases meant when they were first used.
#[derive(Debug, Clone)]
pub(crate) struct AliasPins(PathBuf);

impl AliasPins {
    pub(crate) fn new(dir: &Path) -> Self {
        Self(dir.join(ALIASES))
    }

    pub(crate) fn read(&self) -> Result<BTreeMap<String, KeyId>, Error> {
        match read_optional(&self.0)? {
            None => Ok(BTreeMap::new()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                let path = self.0.clone();
                ProfileError::Damaged { path, why: "not a list of aliases" }.into()
            }),
        }
    }

    pub(crate) fn write(&self, pins: &BTreeMap<String, KeyId>) -> Result<(), Error> {
        let bytes =
            serde_json::to_vec_pretty(pins).map_err(|e| io_error(&self.0, io::Error::other(e)))?;
        write_atomically(&self.0, &bytes)
    }
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> ProfileError {
    ProfileError::Io { path: path.to_path_buf(), source: Arc::new(source) }
}

pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(path, e).into()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|e| io_error(path, e))?;
    Ok(Some(bytes))
}

/// The first `limit` bytes of a file that nobody but its owner may read.
pub(crate) fn read_private(path: &Path, limit: u64) -> Result<SecretVec, Error> {
    let file = File::open(path).map_err(|e| io_error(path, e))?;
    let mode = file.metadata().map_err(|e| io_error(path, e))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ProfileError::Permissions { path: path.to_path_buf(), mode }.into());
    }
    // With room for all of it, so that no copy stays behind where it grew.
    let mut bytes = Vec::with_capacity(usize::try_from(limit).unwrap_or(4096));
    file.take(limit).read_to_end(&mut bytes).map_err(|e| io_error(path, e))?;
    Ok(SecretVec::new(bytes))
}

fn read_key(path: &Path) -> Result<SigningKey, Error> {
    let bytes = read_private(path, 4096)?;
    let damaged = || ProfileError::Damaged {
        path: path.to_path_buf(),
        why: "not an Ed25519 private key in PKCS #8 PEM",
    };
    let der = unpem("PRIVATE KEY", bytes.reveal()).ok_or_else(damaged)?;
    let seed = seed_of_pkcs8(der.reveal()).and_then(Secret::from_slice).ok_or_else(damaged)?;
    Ok(SigningKey::from_seed(SigningSeed::new(seed)))
}

/// RFC 7468 textual encoding.
fn pem(label: &str, der: &[u8]) -> SecretVec {
    let body = SecretVec::new(BASE64.encode(der).into_bytes());
    let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
    text.reserve(body.reveal().len() + body.reveal().len() / 64 + 64);
    for line in body.reveal().chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    SecretVec::new(text)
}

fn unpem(label: &str, text: &[u8]) -> Option<SecretVec> {
    let text = core::str::from_utf8(text).ok()?;
    let body = text
        .trim()
        .strip_prefix(&format!("-----BEGIN {label}-----"))?
        .strip_suffix(&format!("-----END {label}-----"))?;
    let body = SecretVec::new(body.bytes().filter(|b| !b.is_ascii_whitespace()).collect());
    BASE64.decode(body.reveal()).ok().map(SecretVec::new)
}

/// Writes a file that must not exist yet, of mode 0600.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = write_temporary(path, bytes)?;
    // Unlike a rename, a link never replaces what is there.
    let linked = fs::hard_link(&temporary, path);
    let removed = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(ProfileError::Exists(path.to_path_buf()).into());
        }
        Err(e) => return Err(io_error(path, e).into()),
    }
    removed.map_err(|e| io_error(&temporary, e))?;
    sync_parent(path)
}

/// Replaces a file whole, of mode 0600: a temporary file beside it, synced, renamed, and the
/// directory synced.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = write_temporary(path, bytes)?;
    if let Err(e) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(io_error(path, e).into());
    }
    sync_parent(path)
}

fn write_temporary(path: &Path, bytes: &[u8]) -> Result<PathBuf, Error> {
    let mut suffix = [0; 8];
    rand_core::Rng::fill_bytes(&mut os_rng(), &mut suffix);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", HEXLOWER.encode(&suffix)));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        io_error(&temporary, e)
    })?;
    Ok(temporary)
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io_error(dir, e).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profiles/me");
        let made = Profile::create(&path).unwrap();
        let read = Profile::open(&path).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        assert!(read.membership().is_none());
        let mode = |p: &Path| fs::metadata(p).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(PRINCIPAL_KEY)), 0o600);
        let left: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "no temporary files: {left:?}");
    }

    #[test]
    fn a_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let made = Profile::create(dir.path()).unwrap();
        let again = Profile::create(dir.path()).unwrap_err();
        assert_eq!(again.code(), "profile_exists");
        let admin = AdminKey::generate();
        made.store_admin_key(&admin).unwrap();
        assert_eq!(
            made.store_admin_key(&AdminKey::generate()).unwrap_err().code(),
            "profile_exists"
        );
        assert_eq!(made.admin_key().unwrap().public(), admin.public());
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Profile::create(dir.path()).unwrap();
        let path = dir.path().join(PRINCIPAL_KEY);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(Profile::open(dir.path()).unwrap_err().code(), "profile_permissions");
    }

    #[test]
    fn damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Profile::open(dir.path()).unwrap_err().code(), "profile_missing");
        Profile::create(dir.path()).unwrap();
        fs::write(dir.path().join(CLUSTER), b"{}").unwrap();
        assert_eq!(Profile::open(dir.path()).unwrap_err().code(), "profile_damaged");
        fs::write(dir.path().join(PRINCIPAL_KEY), b"-----BEGIN PRIVATE KEY-----").unwrap();
        assert_eq!(Profile::open(dir.path()).unwrap_err().code(), "profile_damaged");
    }
}
