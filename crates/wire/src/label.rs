//! The label: the PRF's input for one object, made by each node from what it authorised.

use quorate_types::{
    Digest, KeyId, KeySpec, KeyVersion, PrincipalId, Purpose, TenantId, UnixSeconds,
};

/// Length of the nonce that the client chooses for each object.
pub const LABEL_NONCE_BYTES: usize = 24;

/// What a PRF output is for, in full. The generation is not in it: a refresh must not change keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label {
    /// What the output is used for.
    pub purpose: Purpose,
    /// The key spec of the key.
    pub spec: KeySpec,
    /// The tenant that owns the key.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// The version of the key.
    pub version: KeyVersion,
    /// Who made the object.
    pub creator: PrincipalId,
    /// When, in seconds.
    pub created_at: UnixSeconds,
    /// 24 bytes of the creator's choosing, random.
    pub nonce: [u8; LABEL_NONCE_BYTES],
    /// SHA-256 of the canonical encryption context.
    pub context_hash: Digest,
}

impl Label {
    /// The canonical bytes: the tag `Quorate-Label-v1` and the nine fields in the order of this
    /// struct, each preceded by its length as 2 bytes, numbers big-endian. Always 202 bytes.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(202);
        let mut field = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        field(b"Quorate-Label-v1");
        field(&[self.purpose.number()]);
        field(&[self.spec.number()]);
        field(self.tenant.as_bytes());
        field(self.key.as_bytes());
        field(&self.version.get().to_be_bytes());
        field(self.creator.as_bytes());
        field(&self.created_at.0.to_be_bytes());
        field(&self.nonce);
        field(self.context_hash.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label {
            purpose: Purpose::ObjectKey,
            spec: KeySpec::PrfRistretto255Sha512,
            tenant: TenantId::from_bytes([1; 32]),
            key: KeyId::from_bytes([2; 32]),
            version: KeyVersion::FIRST,
            creator: PrincipalId::from_bytes([3; 32]),
            created_at: UnixSeconds(1_800_000_000),
            nonce: [4; 24],
            context_hash: Digest::from_bytes([5; 32]),
        }
    }

    #[test]
    fn every_field_changes_the_bytes() {
        let base = label();
        let variants = [
            Label { tenant: TenantId::from_bytes([9; 32]), ..base.clone() },
            Label { key: KeyId::from_bytes([9; 32]), ..base.clone() },
            Label { version: KeyVersion::new(2).unwrap(), ..base.clone() },
            Label { creator: PrincipalId::from_bytes([9; 32]), ..base.clone() },
            Label { created_at: UnixSeconds(1), ..base.clone() },
            Label { nonce: [9; 24], ..base.clone() },
            Label { context_hash: Digest::from_bytes([9; 32]), ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.canonical_bytes(), base.canonical_bytes());
        }
        assert_eq!(base.canonical_bytes().len(), 202);
    }
}
