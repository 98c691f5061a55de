//! Reading rows of a view, and noting which are not there yet.
//!
//! `plan` and `decide` run the same preparation over the same reads: what one asks for is what the
//! other uses, so a decision never needs a row that was not planned.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::log::{LogAnswer, LogRead};
use crate::row::{RowKey, Table};
use crate::view::{Entry, Read, ReadSet, View};

/// At least one row is not in the view yet; [`Reads::missing`] knows which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread;

/// A view, what of it was used, and what was not there.
pub(crate) struct Reads<'v> {
    view: &'v View,
    missing: RefCell<ReadSet>,
    /// The same: a frontier asks for thousands at once.
    noted: RefCell<HashSet<Read>>,
    used: RefCell<Vec<Arc<Entry>>>,
}

impl<'v> Reads<'v> {
    pub(crate) fn new(view: &'v View) -> Self {
        let (missing, noted, used) = Default::default();
        Self { view, missing, noted, used }
    }

    fn note<T>(&self, read: Read) -> Result<T, Unread> {
        if self.noted.borrow_mut().insert(read.clone()) {
            self.missing.borrow_mut().push(read);
        }
        Err(Unread)
    }

    /// A row: its entry, which says whether there is one.
    pub(crate) fn row(&self, key: &RowKey) -> Result<&'v Arc<Entry>, Unread> {
        match self.view.row(key) {
            Some(entry) => {
                self.used.borrow_mut().push(Arc::clone(entry));
                Ok(entry)
            }
            None => self.note(Read::Row(key.clone())),
        }
    }

    /// A range of rows.
    pub(crate) fn range(&self, read: Read) -> Result<&'v [Arc<Entry>], Unread> {
        match self.view.range(&read) {
            Some(entries) => {
                self.used.borrow_mut().extend(entries.iter().map(Arc::clone));
                Ok(entries)
            }
            None => self.note(read),
        }
    }

    /// A range of rows that the decision may rest on as on a count: about. Another that changes them
    /// meanwhile is no conflict.
    pub(crate) fn glance(&self, read: Read) -> Result<&'v [Arc<Entry>], Unread> {
        match self.view.range(&read) {
            Some(entries) => Ok(entries),
            None => self.note(read),
        }
    }

    /// How many rows a table has, about.
    pub(crate) fn count(&self, table: Table) -> Result<u64, Unread> {
        match self.view.count(table) {
            Some(count) => Ok(count),
            None => self.note(Read::Count(table)),
        }
    }

    /// Something of the audit log.
    pub(crate) fn log(&self, read: LogRead) -> Result<&'v LogAnswer, Unread> {
        match self.view.log(&read) {
            Some(answer) => Ok(answer),
            None => self.note(Read::Log(read)),
        }
    }

    /// See [`View::memo`].
    pub(crate) fn memo<T: Send + Sync + 'static>(
        &self,
        fits: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        self.view.memo(fits, make)
    }

    /// What was not there.
    pub(crate) fn missing(self) -> ReadSet {
        self.missing.into_inner()
    }

    /// Every row that was used, each once: what a mutation expects to find as it was.
    pub(crate) fn used(&self) -> Vec<Arc<Entry>> {
        let mut used = self.used.borrow().clone();
        used.sort_by(|a, b| a.key().cmp(b.key()));
        used.dedup_by(|a, b| a.key() == b.key());
        used
    }
}
