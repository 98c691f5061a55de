//! Configuration: flag over environment over file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::args::Common;
use crate::failure::{Code, Failure, Outcome};

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The profile to use where none is named.
    profile: Option<String>,
    /// Settings of each profile.
    #[serde(default)]
    profiles: BTreeMap<String, ProfileSettings>,
}

/// What the file may say of a profile.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileSettings {
    /// Where the profile's files are.
    pub directory: Option<PathBuf>,
    /// The key to encrypt under where none is named.
    pub key: Option<String>,
    /// Milliseconds after which another node is asked too.
    pub hedge_ms: Option<u64>,
    /// Milliseconds after which a node counts as unreachable.
    pub timeout_ms: Option<u64>,
}

/// Where a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A flag or its environment variable.
    Given,
    /// The configuration file.
    File,
    /// Nobody said anything.
    Default,
}

/// What commands work with.
#[derive(Debug)]
pub struct Settings {
    /// The configuration file and whether it exists.
    pub file: Option<(PathBuf, bool)>,
    /// The profile's name.
    pub profile: (String, Source),
    /// The profile's folder.
    pub directory: (PathBuf, Source),
    /// The folder of all profiles.
    pub home: PathBuf,
    /// The rest of the file's words on the profile.
    pub settings: ProfileSettings,
}

impl Settings {
    /// Reads the configuration.
    pub fn load(common: &Common) -> Outcome<Self> {
        let path = common.config.clone().or_else(|| {
            let base = std::env::var_os("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".config")))?;
            Some(base.join("quorate/config.toml"))
        });
        let (file, exists) = match &path {
            None => (File::default(), false),
            Some(p) => match std::fs::read_to_string(p) {
                Ok(text) => (
                    toml::from_str(&text).map_err(|e| {
                        Failure::new(Code::Config, format!("{}: {}", p.display(), e.message()))
                    })?,
                    true,
                ),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && common.config.is_none() => {
                    (File::default(), false)
                }
                Err(e) => {
                    return Err(Failure::new(
                        Code::Config,
                        format!("{}: {}", p.display(), crate::failure::plain(&e)),
                    ));
                }
            },
        };
        let home = common
            .home
            .clone()
            .or_else(|| std::env::var_os("XDG_DATA_HOME").map(|d| Path::new(&d).join("quorate")))
            .or_else(|| {
                std::env::var_os("HOME").map(|h| Path::new(&h).join(".local/share/quorate"))
            })
            .ok_or_else(|| {
                Failure::new(Code::Config, "neither HOME nor QUORATE_HOME says where profiles are")
            })?;
        let profile = match (&common.profile, &file.profile) {
            (Some(name), _) => (name.clone(), Source::Given),
            (None, Some(name)) => (name.clone(), Source::File),
            (None, None) => ("default".to_owned(), Source::Default),
        };
        check_name(&profile.0)?;
        let settings = file.profiles.get(&profile.0).cloned().unwrap_or_default();
        let directory = match &settings.directory {
            Some(d) => (d.clone(), Source::File),
            None => (home.join("profiles").join(&profile.0), Source::Default),
        };
        Ok(Self { file: path.map(|p| (p, exists)), profile, directory, home, settings })
    }

    /// After how long another node is asked too.
    pub fn hedge(&self) -> Option<Duration> {
        self.settings.hedge_ms.map(Duration::from_millis)
    }

    /// After how long a node counts as unreachable.
    pub fn timeout(&self) -> Option<Duration> {
        self.settings.timeout_ms.map(Duration::from_millis)
    }
}

/// Profile names are file names of one plain word.
fn check_name(name: &str) -> Outcome {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || name.len() > 64 || !name.chars().all(plain) {
        return Err(Failure::new(
            Code::Config,
            format!("\"{}\" is no profile name: use letters, digits, - and _", name.escape_debug()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(config: &Path) -> Common {
        Common {
            profile: None,
            config: Some(config.to_owned()),
            home: Some(PathBuf::from("/data")),
            json: false,
            quiet: false,
        }
    }

    #[test]
    fn flag_over_file_over_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "profile = \"a\"\n[profiles.b]\nkey = \"docs\"\n").unwrap();
        let from_file = Settings::load(&common(&path)).unwrap();
        assert_eq!(from_file.profile, ("a".to_owned(), Source::File));
        let mut flag = common(&path);
        flag.profile = Some("b".to_owned());
        let from_flag = Settings::load(&flag).unwrap();
        assert_eq!(from_flag.profile, ("b".to_owned(), Source::Given));
        assert_eq!(from_flag.settings.key.as_deref(), Some("docs"));
    }

    #[test]
    fn unknown_settings_and_path_like_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "profil = \"a\"\n").unwrap();
        assert_eq!(Settings::load(&common(&path)).unwrap_err().code, "config_invalid");
        std::fs::write(&path, "").unwrap();
        let mut bad = common(&path);
        bad.profile = Some("../x".to_owned());
        assert_eq!(Settings::load(&bad).unwrap_err().code, "config_invalid");
    }
}
