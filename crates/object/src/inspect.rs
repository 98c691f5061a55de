//! What a header or a wrapped data key says, for people and scripts, without any key.
//!
//! Nobody vouches for any of it: only who opens a stanza knows that it is true.

use data_encoding::HEXLOWER;
use quorate_types::{KeyId, ObjectId, PrincipalId, TenantId};
use serde::Serialize;

use crate::datakey::{self, WrappedDataKey};
use crate::header::{self, ParsedHeader};
use crate::stanza::Stanza;

/// A sealed object's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectDescription {
    /// Always `sealed-object`.
    pub kind: &'static str,
    /// The format version.
    pub format_version: u16,
    /// The payload suite's name.
    pub payload_suite: &'static str,
    /// The object's random name.
    pub object: ObjectId,
    /// Bytes of the header: where the payload begins.
    pub header_bytes: usize,
    /// The stanzas in order.
    pub stanzas: Vec<StanzaDescription>,
    /// Always `false`: reading a header authenticates nothing.
    pub authenticated: bool,
}

/// A wrapped data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataKeyDescription {
    /// Always `wrapped-data-key`.
    pub kind: &'static str,
    /// The format version.
    pub format_version: u16,
    /// Bytes of the key that is wrapped.
    pub key_bytes: usize,
    /// The stanza.
    pub stanza: StanzaDescription,
    /// Always `false`: reading it authenticates nothing.
    pub authenticated: bool,
}

/// One stanza.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StanzaDescription {
    /// The key spec's name.
    pub key_spec: &'static str,
    /// The tenant that owns the key.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// Its version.
    pub key_version: u32,
    /// Who made the object.
    pub creator: PrincipalId,
    /// When, in seconds since 1970-01-01T00:00:00Z.
    pub created_at: u64,
    /// The label's nonce, in hexadecimal.
    pub nonce: String,
    /// The customer fragment that is needed, or none.
    pub customer_fragment: Option<String>,
    /// The encryption context, where the writer stored it; pairs sorted by key.
    pub encryption_context: Option<Vec<(String, String)>>,
    /// The stanza's salt, in hexadecimal.
    pub salt: String,
    /// The commitment to the KEK, in hexadecimal.
    pub commitment: String,
}

/// Describes a header.
#[must_use]
pub fn object(header: &ParsedHeader) -> ObjectDescription {
    ObjectDescription {
        kind: "sealed-object",
        format_version: header::VERSION,
        payload_suite: header.prologue().suite().name(),
        object: *header.prologue().object(),
        header_bytes: header.length(),
        stanzas: header.stanzas().iter().map(stanza).collect(),
        authenticated: false,
    }
}

/// Describes a wrapped data key.
#[must_use]
pub fn data_key(wrapped: &WrappedDataKey) -> DataKeyDescription {
    DataKeyDescription {
        kind: "wrapped-data-key",
        format_version: datakey::VERSION,
        key_bytes: wrapped.stanza().key_bytes(),
        stanza: stanza(wrapped.stanza()),
        authenticated: false,
    }
}

fn stanza(stanza: &Stanza) -> StanzaDescription {
    let facts = stanza.facts();
    StanzaDescription {
        key_spec: facts.spec.name(),
        tenant: facts.tenant,
        key: facts.key,
        key_version: facts.version.get(),
        creator: facts.creator,
        created_at: facts.created_at.0,
        nonce: HEXLOWER.encode(stanza.nonce()),
        customer_fragment: stanza.fragment().map(|id| id.to_string()),
        encryption_context: stanza.stored_context().map(|context| context.pairs().to_vec()),
        salt: HEXLOWER.encode(stanza.salt()),
        commitment: HEXLOWER.encode(stanza.commitment()),
    }
}
