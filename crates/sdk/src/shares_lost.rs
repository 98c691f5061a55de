//! What is said where a key cannot be used because nodes have lost their shares of it: who, how many are needed, and
//! whether the nodes alone can mend it.

use core::fmt;

use quorate_types::{KeyId, KeyVersion};
use quorate_wire::RefusalCode;

use crate::error::{Error, NotQuorate, code};
use crate::keys::Key;

/// Too few nodes answer for a key version, and some of the others say that they hold no share of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SharesLost {
    /// The key.
    pub key: KeyId,
    /// Its alias.
    pub alias: String,
    /// The version.
    pub version: KeyVersion,
    /// The nodes that say that they hold no share.
    pub without: Vec<String>,
    /// Who answered what.
    pub missing: NotQuorate,
}

impl SharesLost {
    /// The same failure in these words, where nodes without shares are a part of it and no other refusal suffices.
    pub(crate) fn or(missing: NotQuorate, key: &Key, version: KeyVersion) -> Error {
        let lost = RefusalCode::ShareNotHeld.code();
        let (without, refused): (Vec<_>, Vec<_>) =
            missing.refused.iter().partition(|refused| refused.refusal.code == lost);
        let without: Vec<String> = without.into_iter().map(|node| node.name.clone()).collect();
        if without.is_empty() || missing.of.saturating_sub(refused.len()) < missing.needed {
            return missing.into_error();
        }
        let (id, alias) = (key.id(), key.alias().to_owned());
        Error::SharesLost(Box::new(Self { key: id, alias, version, without, missing }))
    }

    /// Whether fewer nodes can have a share than must answer, so that nothing helps but a share from elsewhere. Where
    /// this is not so, nodes that could not be reached may have the rest.
    #[must_use]
    pub fn for_good(&self) -> bool {
        self.can_have() < self.missing.needed
    }

    /// How many nodes have not said that they hold none.
    fn can_have(&self) -> usize {
        self.missing.of.saturating_sub(self.without.len())
    }

    pub(crate) fn code(&self) -> &'static str {
        if self.for_good() { code::SHARES_LOST } else { code::SHARES_MISSING }
    }
}

impl std::error::Error for SharesLost {}

impl fmt::Display for SharesLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alias, version, without, missing, .. } = self;
        let (operation, needed, of) = (missing.operation, missing.needed, missing.of);
        let nodes = without.join(", ");
        let share = if without.len() == 1 { "its share" } else { "their shares" };
        if self.for_good() {
            return write!(
                f,
                "cannot {operation}: {nodes} lost {share} of version {version} of \"{alias}\". {needed} of {of} nodes \
                 must hold one, and at most {} can. The nodes alone cannot recover it",
                self.can_have()
            );
        }
        let failed = missing.unreachable.len() + missing.refused.len() + missing.wrong.len();
        write!(
            f,
            "cannot {operation}: {needed} of {of} nodes must answer with a share of version {version} of \"{alias}\", \
             and {} can; {nodes} lost {share}, or was restored from a backup",
            of.saturating_sub(failed)
        )?;
        for (i, node) in missing.unreachable.iter().enumerate() {
            f.write_str(if i == 0 { "; not reached: " } else { ", " })?;
            write!(f, "{} ({})", node.name, node.reason)?;
        }
        for (i, node) in missing.wrong.iter().enumerate() {
            f.write_str(if i == 0 { "; wrong answers from " } else { ", " })?;
            write!(f, "{node}")?;
        }
        write!(
            f,
            ". Should {} more of them have lost theirs, the nodes alone cannot recover it",
            self.can_have() + 1 - needed
        )
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::UnixSeconds;

    use super::*;
    use crate::error::NodeRefusal;

    fn lost(needed: usize, of: usize, without: &[&str]) -> SharesLost {
        let refused = |name: &&str| NodeRefusal {
            name: (*name).to_owned(),
            refusal: RefusalCode::ShareNotHeld.message("none".to_owned(), UnixSeconds(1)),
        };
        let missing = NotQuorate {
            operation: "decrypt",
            needed,
            of,
            answered: 0,
            unreachable: Vec::new(),
            refused: without.iter().map(refused).collect(),
            wrong: Vec::new(),
        };
        SharesLost {
            key: KeyId::from_bytes([1; 32]),
            alias: "docs".to_owned(),
            version: KeyVersion::FIRST,
            without: without.iter().map(|name| (*name).to_owned()).collect(),
            missing,
        }
    }

    #[test]
    fn whether_nodes_alone_can_mend_it_is_said_exactly() {
        for (needed, of, without, for_good) in [
            (2, 3, &["a"][..], false),
            (2, 3, &["a", "b"], true),
            (3, 5, &["a", "b"], false),
            (3, 5, &["a", "b", "c"], true),
            (3, 3, &["a"], true),
            (1, 3, &["a", "b"], false),
        ] {
            let error = Error::SharesLost(Box::new(lost(needed, of, without)));
            let text = error.to_string();
            assert_eq!(error.code() == "shares_lost", for_good, "{text}");
            assert_eq!(error.code() == "shares_missing", !for_good, "{text}");
            assert!(without.iter().all(|name| text.contains(name)), "{text}");
            assert!(text.contains(&format!("{needed} of {of} nodes")), "{text}");
            assert!(text.contains("the nodes alone cannot recover it") != for_good, "{text}");
            assert!(error.next().contains("docs/backup.md") && !error.unchanged().is_empty());
        }
        let text = lost(3, 5, &["a"]).to_string();
        assert!(text.contains("Should 2 more of them"), "{text}");
    }
}
