//! Rows that nodes keep on disk: each says its version.
//!
//! Field 100 of every message of `quorate.store.v1` that is a row is the row's version; where it is absent the row has
//! version 1. The format of the store is above that (`quorate_storage`): rows of a version that the build before does not
//! know are written only in a store of a later format, which that build does not open. This check is for what should not be
//! there: a build that took a later row for one of its own would drop what it does not know when it writes the row again.

use prost::Message;

use crate::proto::store::v1::RowVersion;

/// The version of the rows that this build writes, and the newest that it reads.
pub const ROW_VERSION: u32 = 1;

/// Why bytes are no row that this build reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Not this message.
    #[error("does not decode")]
    Malformed,
    /// A row of a later build.
    #[error("has version {0}, and this build knows rows of version {ROW_VERSION}")]
    Newer(u32),
}

/// A row that this build or an earlier one wrote.
///
/// # Errors
/// [`RowError`].
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, RowError> {
    let RowVersion { version } = RowVersion::decode(bytes).map_err(|_| RowError::Malformed)?;
    if version > ROW_VERSION {
        return Err(RowError::Newer(version));
    }
    M::decode(bytes).map_err(|_| RowError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::store::v1::{AttemptsRow, HeadsRow};

    /// Fails with the `decode` of prost, which skips what it does not know.
    #[test]
    fn a_row_of_a_later_version_is_not_taken_for_one_of_this() {
        let row = AttemptsRow { opened: 3, dealt: vec![vec![7; 32]] };
        let bytes = row.encode_to_vec();
        assert_eq!(decode::<AttemptsRow>(&bytes), Ok(row));
        let with = |version: u32| {
            let mut bytes = bytes.clone();
            prost::encoding::uint32::encode(100, &version, &mut bytes);
            decode::<AttemptsRow>(&bytes)
        };
        assert!(with(1).is_ok());
        assert_eq!(with(2), Err(RowError::Newer(2)));
        assert_eq!(decode::<HeadsRow>(&[0xff]), Err(RowError::Malformed));
    }

    /// No row has a field of its own where the version stands.
    #[test]
    fn the_number_of_the_version_is_free_in_every_row() {
        let proto = include_str!("../../../spec/proto/quorate/store/v1/store.proto");
        let used = proto.lines().filter(|line| line.contains("= 100;")).count();
        assert_eq!(used, 1, "only in RowVersion");
    }
}
