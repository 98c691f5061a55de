//! Invitations: how a machine learns which cluster it belongs to, without trusting on first use.

use core::fmt;
use core::str::FromStr;

use data_encoding::BASE32_NOPAD;
use prost::Message;
use quorate_documents::{Body, SignedDocument};
use quorate_types::{ClusterId, Digest, PrincipalId, TenantId};
use quorate_wire::Transcript;
use quorate_wire::proto::v1::Envelope;

use crate::error::InvitationError;
use crate::profile::Membership;
use crate::rng::now;

const PREFIX: &str = "quorate-invitation-1:";
const CHECKSUM_BYTES: usize = 4;

/// What an administrator hands to a machine whose principal was added. Nothing in it is secret, and
/// nothing in it is believed before its fingerprint was compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Invitation {
    /// The cluster: the digest of its first roster.
    pub cluster: ClusterId,
    /// The principal's tenant.
    pub tenant: TenantId,
    /// The principal.
    pub principal: PrincipalId,
    /// The newest roster.
    pub roster: Envelope,
}

/// The JSON form.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    quorate_invitation: u32,
    cluster: ClusterId,
    tenant: TenantId,
    principal: PrincipalId,
    roster: Envelope,
}

impl Invitation {
    /// What people compare over another channel: covers every field.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Transcript::new("invitation").field(&self.bytes()).digest()
    }

    /// One line of lower-case base32 with a checksum against slips of copying.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = self.bytes();
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
    }

    /// A JSON file, for people who want to read it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = Json {
            quorate_invitation: 1,
            cluster: self.cluster,
            tenant: self.tenant,
            principal: self.principal,
            roster: self.roster.clone(),
        };
        // Texts, numbers and base64 only: serde_json has no failing case for them.
        serde_json::to_string_pretty(&json).unwrap_or_default()
    }

    /// Reads either form, with any white space around and inside the text form.
    ///
    /// # Errors
    /// [`InvitationError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let text = text.trim();
        if text.starts_with('{') {
            let json: Json = serde_json::from_str(text)
                .map_err(|_| InvitationError::Malformed("the JSON has other fields"))?;
            if json.quorate_invitation != 1 {
                return Err(InvitationError::Malformed("another version"));
            }
            return Ok(Self {
                cluster: json.cluster,
                tenant: json.tenant,
                principal: json.principal,
                roster: json.roster,
            });
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let body = text
            .strip_prefix(PREFIX)
            .ok_or(InvitationError::Malformed("it begins with \"quorate-invitation-1:\""))?;
        let bytes = BASE32_NOPAD
            .decode(body.to_uppercase().as_bytes())
            .map_err(|_| InvitationError::Malformed("mistyped or cut short"))?;
        let (bytes, found) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(InvitationError::Malformed("cut short"))?;
        if checksum(bytes) != *found {
            return Err(InvitationError::Malformed("mistyped or cut short"));
        }
        let (cluster, rest) = id(bytes)?;
        let (tenant, rest) = id(rest)?;
        let (principal, rest) = id(rest)?;
        Ok(Self {
            cluster: ClusterId::from_bytes(cluster),
            tenant: TenantId::from_bytes(tenant),
            principal: PrincipalId::from_bytes(principal),
            roster: Envelope::decode(rest)
                .map_err(|_| InvitationError::Malformed("it holds no roster"))?,
        })
    }

    /// Checks the roster by itself; that it is the right one is what the fingerprint says.
    pub(crate) fn verify(&self) -> Result<Membership, InvitationError> {
        let bad = |why: &str| InvitationError::Roster(why.to_owned());
        let roster = SignedDocument::parse(self.roster.clone())
            .map_err(|e| InvitationError::Roster(e.to_string()))?;
        let Body::Roster(body) = roster.body() else {
            return Err(bad("the document is no roster"));
        };
        if roster.id().as_bytes() != self.cluster.as_bytes() {
            return Err(bad("it is the roster of another cluster"));
        }
        if roster.version() == 1 && !body.administrators.quorum_of(roster.signers()) {
            return Err(bad("too few of its administrators signed it"));
        }
        if body.expires_at <= now() {
            return Err(bad("it has expired; ask for a new invitation"));
        }
        Ok(Membership {
            cluster: self.cluster,
            tenant: self.tenant,
            principal: self.principal,
            roster,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let ids: [&[u8]; 3] =
            [self.cluster.as_bytes(), self.tenant.as_bytes(), self.principal.as_bytes()];
        let mut bytes = ids.concat();
        bytes.extend_from_slice(&self.roster.encode_to_vec());
        bytes
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        Self::parse(text)
    }
}

fn id(bytes: &[u8]) -> Result<([u8; 32], &[u8]), InvitationError> {
    let (id, rest) =
        bytes.split_first_chunk::<32>().ok_or(InvitationError::Malformed("cut short"))?;
    Ok((*id, rest))
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Transcript::new("invitation-checksum").field(bytes).digest();
    let mut out = [0; CHECKSUM_BYTES];
    for (to, from) in out.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::bundle;
    use crate::profile::Profile;

    #[test]
    fn both_forms_read_back_and_slips_are_noticed() {
        let invitation = bundle(3).invitation();
        let text = invitation.to_text();
        assert_eq!(Invitation::parse(&text), Ok(invitation.clone()));
        let wrapped: String = text
            .as_bytes()
            .chunks(60)
            .map(|l| format!("  {}\n", String::from_utf8_lossy(l)))
            .collect();
        assert_eq!(Invitation::parse(&wrapped), Ok(invitation.clone()));
        assert_eq!(Invitation::parse(&invitation.to_json()), Ok(invitation.clone()));
        assert!(Invitation::parse(&text[..text.len() - 8]).is_err());
        for at in [30, 100, 400] {
            let mut bad = text.clone().into_bytes();
            bad[at] = if bad[at] == b'a' { b'b' } else { b'a' };
            assert!(Invitation::parse(&String::from_utf8(bad).unwrap()).is_err(), "{at}");
        }
    }

    /// Never trust on first use. Fails when `accept` does not compare.
    #[test]
    fn an_invitation_with_another_fingerprint_is_refused() {
        let (one, two) = (bundle(3).invitation(), bundle(3).invitation());
        let dir = tempfile::tempdir().unwrap();
        let mut profile = Profile::create(dir.path()).unwrap();
        let refused = profile.accept(&two, one.fingerprint()).unwrap_err();
        assert_eq!(refused.code(), "invitation_fingerprint");
        let mut other_tenant = one.clone();
        other_tenant.tenant = two.tenant;
        assert!(profile.accept(&other_tenant, one.fingerprint()).is_err());
        assert!(profile.membership().is_none());

        profile.accept(&one, one.fingerprint()).unwrap();
        let read = Profile::open(dir.path()).unwrap();
        assert_eq!(read.membership(), profile.membership());
        let other = profile.accept(&two, two.fingerprint()).unwrap_err();
        assert_eq!(other.code(), "profile_other_cluster");
    }
}
