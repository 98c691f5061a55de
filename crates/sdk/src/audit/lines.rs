//! Exports: a log as lines of JSON, written and read one by one.

use std::io::{BufRead, Read};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use quorate_audit::Hash;
use quorate_types::{KeyId, PrincipalId};

use super::{AuditError, LeafBody, row};

/// Bytes of the longest line: a record of 4096 labels, in base64, and what is said of it.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// A line of an export. Everything beside index and record is for people, and must follow from the record.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: u64,
    /// The leaf's hash, in hexadecimal.
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    /// The record itself, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<String>,
}

impl Line {
    fn of(index: u64, leaf: &LeafBody) -> Result<Self, AuditError> {
        let mut line = Self {
            index,
            hash: String::new(),
            time: None,
            principal: None,
            method: None,
            key: None,
            key_version: None,
            labels: None,
            decision: None,
            record: None,
        };
        match leaf {
            Err(hash) => line.hash = HEXLOWER.encode(hash.as_bytes()),
            Ok(record) => {
                let row = row(index, record)?;
                line.hash = HEXLOWER.encode(Hash::of_leaf(record).as_bytes());
                line.time = Some(row.time);
                let principal = PrincipalId::from_slice(&row.principal).ok();
                line.principal = principal.map(|id| id.to_string());
                line.method = Some(row.method);
                line.key = KeyId::from_slice(&row.key).ok().map(|id| id.to_string());
                line.key_version = Some(row.key_version).filter(|version| *version > 0);
                line.labels = Some(row.nonces.len() / 24).filter(|labels| *labels > 0);
                line.decision = Some(row.decision);
                line.record = Some(BASE64.encode(record));
            }
        }
        Ok(line)
    }

    fn text(&self) -> String {
        // Numbers and texts only, which always can be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A leaf as an export has it, with the line's end.
pub(super) fn line(index: u64, leaf: &LeafBody) -> Result<String, AuditError> {
    let mut text = Line::of(index, leaf)?.text();
    text.push('\n');
    Ok(text)
}

/// Reads an export again. Every line must be as it was written, to the last character.
pub(super) struct Lines<R> {
    from: R,
    at: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(from: R) -> Self {
        Self { from, at: 0 }
    }

    /// The next leaf, unless the export is over.
    pub(super) fn next(&mut self) -> Result<Option<LeafBody>, AuditError> {
        let at = self.at;
        let wrong = |what| AuditError::Line { line: at.saturating_add(1), what };
        let mut bytes = Vec::new();
        let read = (&mut self.from).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(_) => return Err(wrong("could not be read")),
        }
        if bytes.pop() != Some(b'\n') {
            return Err(wrong("was cut off, or is longer than a line is"));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not a line of an export"))?;
        let line: Line =
            serde_json::from_str(&text).map_err(|_| wrong("is not a line of an export"))?;
        let leaf = match &line.record {
            Some(record) => {
                let record = BASE64.decode(record.as_bytes()).ok();
                Ok(record.ok_or_else(|| wrong("has no readable record"))?)
            }
            None => {
                let hash = HEXLOWER_PERMISSIVE.decode(line.hash.as_bytes()).ok();
                let hash = hash.and_then(|bytes| Hash::from_slice(&bytes));
                Err(hash.ok_or_else(|| wrong("has no hash"))?)
            }
        };
        let again =
            Line::of(line.index, &leaf).map_err(|_| wrong("has a record that cannot be read"))?;
        if again.text() != text {
            return Err(wrong("was changed: it does not say what its record says"));
        }
        if line.index != at {
            return Err(wrong(
                "is not the record that belongs here: one was dropped, added or moved",
            ));
        }
        self.at = at.saturating_add(1);
        Ok(Some(leaf))
    }
}
