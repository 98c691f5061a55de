//! What the node knows of the machine that it runs on: its disk, and who else may read its files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_storage::DATABASE_FILE;

use crate::config::CONFIG_FILE;
use crate::limits::{DISK_ALARM, DISK_WARNING};
use crate::{hygiene, rootkey};

/// The disk that the data directory is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that a process without privileges may still write.
    pub free_bytes: u64,
    /// All bytes that such a process may use, free or not.
    pub total_bytes: u64,
}

impl Disk {
    /// The disk under a path; all zero where the system does not say.
    #[must_use]
    pub fn under(path: &Path) -> Self {
        let Ok(disk) = rustix::fs::statvfs(path) else { return Self::default() };
        let used = disk.f_blocks.saturating_sub(disk.f_bfree);
        Self {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            total_bytes: used.saturating_add(disk.f_bavail).saturating_mul(disk.f_frsize),
        }
    }
}

/// How bad it is that a disk fills up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filling {
    /// Time to archive or to make room.
    Warning,
    /// Soon the node will refuse everything.
    Alarm,
}

impl Filling {
    /// The word that the node's status and metrics have for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Warning => "disk_80",
            Self::Alarm => "disk_95",
        }
    }
}

/// From how full a disk on the operator hears of it, in per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskAlarms {
    /// That a warning is due.
    pub warning: u64,
    /// That it is an alarm.
    pub alarm: u64,
}

impl Default for DiskAlarms {
    fn default() -> Self {
        Self { warning: DISK_WARNING, alarm: DISK_ALARM }
    }
}

impl DiskAlarms {
    /// How full the disk is or the database has become of what it may, whichever is worse, and how bad that is. A
    /// database's bound is the operator's own, so what counts there does not change with the disk's limits.
    #[must_use]
    pub fn judge(self, disk: Disk, database: u64, bound: Option<u64>) -> (Option<Filling>, u64) {
        let used = disk.total_bytes.saturating_sub(disk.free_bytes);
        let disk = self.level(percent(used, disk.total_bytes));
        disk.max(Self::default().level(percent(database, bound.unwrap_or(0))))
    }

    const fn level(self, used: u64) -> (Option<Filling>, u64) {
        let filling = match used {
            used if used >= self.alarm => Some(Filling::Alarm),
            used if used >= self.warning => Some(Filling::Warning),
            _ => None,
        };
        (filling, used)
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

/// Where the node's files are, and what bounds them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) data_dir: PathBuf,
    pub(crate) root_key_file: Option<PathBuf>,
    pub(crate) max_database_bytes: Option<u64>,
    pub(crate) disk_alarms: DiskAlarms,
    pub(crate) clock_is_moved: bool,
    pub(crate) notices: Arc<Notices>,
}

/// For so long a node says that somebody came with a credential that was given up.
const OLD_CREDENTIAL_NOTICE: Duration = Duration::from_secs(24 * 3600);

/// What the running node finds about credentials.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    keys_offered: AtomicBool,
    old_credential: Mutex<Option<Instant>>,
}

impl Notices {
    /// Whether the node has keys that no roster names yet.
    pub(crate) fn set_keys_offered(&self, offered: bool) {
        self.keys_offered.store(offered, Ordering::Relaxed);
    }

    /// Somebody came with a credential that was given up.
    pub(crate) fn old_credential_used(&self) {
        let now = Some(Instant::now());
        *self.old_credential.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn old_credential_in_use(&self) -> bool {
        let used = *self.old_credential.lock().unwrap_or_else(PoisonError::into_inner);
        used.is_some_and(|used| used.elapsed() < OLD_CREDENTIAL_NOTICE)
    }
}

impl Machine {
    pub(crate) fn disk(&self) -> Disk {
        Disk::under(&self.data_dir)
    }

    /// The database without its write-ahead log.
    pub(crate) fn database_file_bytes(&self) -> u64 {
        std::fs::metadata(self.data_dir.join(DATABASE_FILE)).map_or(0, |file| file.len())
    }

    /// What is wrong with the machine, in words that `Status` and the metrics say. They name no path:
    /// every principal of the cluster may ask.
    pub(crate) fn alarms(&self) -> Vec<&'static str> {
        let hygiene = hygiene::obtained();
        let open = |path: &Path, bits: u32| mode(path).is_some_and(|mode| mode & bits != 0);
        let (database, bound) = (self.database_file_bytes(), self.max_database_bytes);
        let (filling, _) = self.disk_alarms.judge(self.disk(), database, bound);
        let is = |level| filling == Some(level);
        let found = [
            (is(Filling::Warning), Filling::Warning.word()),
            (is(Filling::Alarm), Filling::Alarm.word()),
            (self.clock_is_moved, "clock_moved"),
            (hygiene.is_some_and(|h| !h.no_core_files), "core_files_on"),
            (hygiene.is_some_and(|h| !h.not_dumpable), "memory_readable"),
            (hygiene.is_some_and(|h| !h.locked), "memory_not_locked"),
            (open(&self.data_dir.join(CONFIG_FILE), 0o022), "config_writable"),
            (open(&self.data_dir, 0o077), "data_dir_open"),
            (
                self.root_key_file.as_deref().is_some_and(|path| open(path, 0o077)),
                "root_key_file_open",
            ),
            (rootkey::unfinished(&self.data_dir), "root_key_unfinished"),
            (self.notices.keys_offered.load(Ordering::Relaxed), "keys_offered"),
            (self.notices.old_credential_in_use(), "credential_old_in_use"),
        ];
        found.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect()
    }
}

/// Every word of [`Machine::alarms`].
pub(crate) const ALARMS: [&str; 12] = [
    "disk_80",
    "disk_95",
    "clock_moved",
    "core_files_on",
    "memory_readable",
    "memory_not_locked",
    "config_writable",
    "data_dir_open",
    "root_key_file_open",
    "root_key_unfinished",
    "keys_offered",
    "credential_old_in_use",
];

/// A file's permission bits.
fn mode(path: &Path) -> Option<u32> {
    Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    #[test]
    fn files_that_others_may_use_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        fs::create_dir(&data_dir).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        set(&data_dir, 0o700).unwrap();
        let config = data_dir.join(CONFIG_FILE);
        let key = folder.path().join("root.key");
        fs::write(&config, "").unwrap();
        fs::write(&key, "").unwrap();
        set(&config, 0o644).unwrap();
        set(&key, 0o600).unwrap();
        let mut machine = Machine {
            data_dir: data_dir.clone(),
            root_key_file: Some(key.clone()),
            max_database_bytes: None,
            // Whatever the test's own disk is like.
            disk_alarms: DiskAlarms { warning: 101, alarm: 101 },
            clock_is_moved: false,
            notices: Arc::default(),
        };
        let here = |machine: &Machine| -> Vec<&str> {
            let all = machine.alarms();
            assert!(all.iter().all(|word| ALARMS.contains(word)));
            all.into_iter()
                .filter(|word| !word.contains("memory") && *word != "core_files_on")
                .collect()
        };
        assert!(here(&machine).is_empty());
        set(&config, 0o664).unwrap();
        set(&key, 0o640).unwrap();
        set(&data_dir, 0o750).unwrap();
        machine.clock_is_moved = true;
        assert_eq!(
            here(&machine),
            ["clock_moved", "config_writable", "data_dir_open", "root_key_file_open"]
        );
        machine.notices.set_keys_offered(true);
        machine.notices.old_credential_used();
        assert_eq!(here(&machine)[4..], ["keys_offered", "credential_old_in_use"]);
        fs::write(data_dir.join(DATABASE_FILE), [0; 1000]).unwrap();
        machine.max_database_bytes = Some(1050);
        assert!(machine.alarms().contains(&"disk_95"));
        machine.max_database_bytes = Some(1200);
        assert!(machine.alarms().contains(&"disk_80"));
        let disk = machine.disk();
        assert!(disk.free_bytes > 0 && disk.free_bytes <= disk.total_bytes, "{disk:?}");
        assert_eq!(Disk::under(Path::new("/nowhere/at/all")), Disk::default());
    }

    #[test]
    fn a_disk_is_judged_by_what_its_operator_set_and_a_bound_is_not() {
        let disk = |free_bytes| Disk { free_bytes, total_bytes: 100 };
        let (usual, late) = (DiskAlarms::default(), DiskAlarms { warning: 90, alarm: 99 });
        for (alarms, used, expected) in [
            (usual, 79, None),
            (usual, 80, Some(Filling::Warning)),
            (usual, 94, Some(Filling::Warning)),
            (usual, 95, Some(Filling::Alarm)),
            (late, 89, None),
            (late, 95, Some(Filling::Warning)),
            (late, 100, Some(Filling::Alarm)),
        ] {
            assert_eq!(alarms.judge(disk(100 - used), 0, None), (expected, used));
        }
        // The bound of the database, and the worse of the two.
        assert_eq!(late.judge(disk(10), 85, Some(100)), (Some(Filling::Warning), 90));
        assert_eq!(late.judge(disk(50), 96, Some(100)), (Some(Filling::Alarm), 96));
        // Of nothing nothing is used.
        assert_eq!(usual.judge(Disk::default(), 5, None), (None, 0));
    }
}
