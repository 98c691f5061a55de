//! `node.toml`: what an operator may change between two starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError, Readable};
use crate::limits::{AUDIT_RECORDS_KEPT, DISK_ALARM, DISK_WARNING};
use crate::machine::DiskAlarms;

/// The configuration's name in the data directory.
pub const CONFIG_FILE: &str = "node.toml";

/// What `node.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Address and port to listen on. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where clients find the node, the preferred one first. Clients go by the roster; a change here
    /// is a change of what the node says of itself, for the next roster.
    pub urls: Vec<String>,
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(default = "default_log")]
    pub log: String,
    /// The key file that unlocks the root key, where none is named at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key_file: Option<PathBuf>,
    /// Bytes that the database may grow to; past that the node refuses, and other programs keep their
    /// disk. Without it only the disk's size bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_database_bytes: Option<u64>,
    /// From how full a disk on the node warns its operator, in per cent; above 100 never.
    #[serde(default = "default_warning", skip_serializing_if = "is_default_warning")]
    pub disk_warning_percent: u64,
    /// And from which on it is an alarm.
    #[serde(default = "default_alarm", skip_serializing_if = "is_default_alarm")]
    pub disk_alarm_percent: u64,
    /// Where old audit records go: segments that anybody can verify, written once another node has
    /// cosigned what they lead to. Without it every record stays in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_archive: Option<PathBuf>,
    /// Audit records that stay in the database, where there is an archive.
    #[serde(default = "default_kept", skip_serializing_if = "is_default_kept")]
    pub audit_records_kept: u64,
    /// Address and port for monitoring: `/health`, `/ready` and `/metrics` in plain HTTP. Nothing listens
    /// there unless it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_address: Option<SocketAddr>,
    /// For drills only: moves the node's clock by this many seconds, to see what the cluster does when
    /// a clock is wrong. Leave it out otherwise.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clock_offset_seconds: i64,
}

const fn default_kept() -> u64 {
    AUDIT_RECORDS_KEPT
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_default_kept(records: &u64) -> bool {
    *records == AUDIT_RECORDS_KEPT
}

const fn default_warning() -> u64 {
    DISK_WARNING
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_default_warning(percent: &u64) -> bool {
    *percent == DISK_WARNING
}

const fn default_alarm() -> u64 {
    DISK_ALARM
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_default_alarm(percent: &u64) -> bool {
    *percent == DISK_ALARM
}

fn default_log() -> String {
    "info".to_owned()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(seconds: &i64) -> bool {
    *seconds == 0
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file says something that is not understood.
    #[error("{path} is not understood")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
}

const HEADING: &str = "\
# The node's configuration. Changes count from the next start.
#
# listen                 address and port to listen on
# urls                   where clients find the node, for the next roster
# log                    error, warn, info, debug or trace
# root_key_file          the key file that unlocks the root key, where none is named at the start
# max_database_bytes     bound of the database's size
# disk_warning_percent   how full, in per cent, the disk may be before the node warns: 80
# disk_alarm_percent     and before it is an alarm: 95
# audit_archive          directory for old audit records; without it all stay in the database
# audit_records_kept     audit records that stay in the database beside an archive
# health_address         address and port for monitoring, in plain HTTP: 127.0.0.1:7844
# clock_offset_seconds   for drills only: moves the node's clock

";

impl NodeConfig {
    /// Reads the configuration of a data directory.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(data_dir: &Path) -> Result<Self, ConfigError> {
        let path = data_dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).map_err(FileError::of("cannot read", &path))?;
        toml::from_str(&text).map_err(|source| ConfigError::Syntax { path, source })
    }

    /// Names another root key file where the configuration of a data directory names one, and none where
    /// there is none; everything else stays as it was written. Returns the file that is named then.
    pub(crate) fn name_key_file(
        data_dir: &Path,
        file: Option<PathBuf>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let named = Self::load(data_dir)?.root_key_file;
        if named.is_none() || named == file {
            return Ok(named);
        }
        let path = data_dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).map_err(FileError::of("cannot read", &path))?;
        let line = |file: &PathBuf| {
            format!("root_key_file = {}\n", toml::Value::String(file.display().to_string()))
        };
        let mut after = String::with_capacity(text.len());
        for before in text.split_inclusive('\n') {
            let words = before.trim_start().strip_prefix("root_key_file");
            if words.is_some_and(|rest| rest.trim_start().starts_with('=')) {
                after.extend(file.as_ref().map(line));
            } else {
                after.push_str(before);
            }
        }
        files::replace(&path, after.as_bytes(), Readable::Everybody)?;
        Ok(file)
    }

    /// From how full a disk on the operator hears of it.
    #[must_use]
    pub const fn disk_alarms(&self) -> DiskAlarms {
        DiskAlarms { warning: self.disk_warning_percent, alarm: self.disk_alarm_percent }
    }

    pub(crate) fn create(&self, data_dir: &Path) -> Result<(), FileError> {
        let path = data_dir.join(CONFIG_FILE);
        let text = toml::to_string(self)
            .map_err(std::io::Error::other)
            .map_err(FileError::of("cannot write", &path))?;
        files::create(&path, format!("{HEADING}{text}").as_bytes(), Readable::Everybody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_unknown_words_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            urls: vec!["https://a.example:7843".into()],
            log: default_log(),
            root_key_file: Some("/etc/quorate/root.key".into()),
            max_database_bytes: None,
            disk_warning_percent: default_warning(),
            disk_alarm_percent: default_alarm(),
            audit_archive: None,
            audit_records_kept: default_kept(),
            health_address: None,
            clock_offset_seconds: 0,
        };
        config.create(directory.path()).unwrap();
        assert_eq!(NodeConfig::load(directory.path()).unwrap(), config);

        // Another key file; the rest stays, comments too.
        let path = directory.path().join(CONFIG_FILE);
        let before = std::fs::read_to_string(&path).unwrap();
        let another = Some(PathBuf::from("/etc/quorate/\"next\".key"));
        let named = NodeConfig::name_key_file(directory.path(), another.clone()).unwrap();
        assert_eq!(named, another);
        let renamed = NodeConfig { root_key_file: another, ..config.clone() };
        assert_eq!(NodeConfig::load(directory.path()).unwrap(), renamed);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(HEADING));
        let first = config.root_key_file.clone();
        NodeConfig::name_key_file(directory.path(), first).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);

        let text = std::fs::read_to_string(&path).unwrap() + "clock_offset_seconds = -600\n";
        std::fs::write(&path, &text).unwrap();
        let drill = NodeConfig::load(directory.path()).unwrap();
        assert_eq!(drill.clock_offset_seconds, -600);
        std::fs::write(&path, text + "insecure = true\n").unwrap();
        assert!(matches!(NodeConfig::load(directory.path()), Err(ConfigError::Syntax { .. })));
    }
}
