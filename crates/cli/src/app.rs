//! What commands share: settings, printing, the profile and its client.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quorate_sdk::{Client, EncryptionContext, Envelope, Key, Profile, ProfileError};
use serde::Serialize;

use crate::args::{Common, ContextArgs, WaitArgs};
use crate::config::Settings;
use crate::failure::{Code, Exit, Failure, Outcome};
use crate::output::Output;

/// Documents of this profile that not every node has confirmed.
const PENDING: &str = "pending-documents.json";

/// The clients of this run, which write down at its end what they have seen of the nodes.
static CLIENTS: Mutex<Vec<Client>> = Mutex::new(Vec::new());

/// How long that may take.
const FINISH: Duration = Duration::from_secs(2);

/// After the command, when its results are printed: lets nodes prove that their audit logs only grew, and says
/// which could not.
pub async fn finish(out: Output) {
    let clients = core::mem::take(&mut *CLIENTS.lock().unwrap_or_else(PoisonError::into_inner));
    for client in clients {
        if let Err(error) = client.settle(FINISH).await {
            out.warn(&format!("what was seen of the nodes' audit logs could not be kept: {error}"));
        }
        let alarms = client.warnings().into_iter();
        let is_alarm = |w: &quorate_sdk::Warning| {
            use quorate_sdk::Warning::{RetiredLogKey, RolledBack};
            matches!(w, RolledBack { .. } | RetiredLogKey { .. })
        };
        for alarm in alarms.filter(is_alarm) {
            out.warn(&alarm.to_string());
        }
    }
}

/// One run of the program.
pub struct App {
    /// How to print.
    pub out: Output,
    /// What the configuration says.
    pub settings: Settings,
}

impl App {
    /// Reads the configuration.
    pub fn new(common: &Common) -> Outcome<Self> {
        Ok(Self { out: Output::new(common), settings: Settings::load(common)? })
    }

    /// The profile's folder.
    pub fn profile_dir(&self) -> &Path {
        &self.settings.directory.0
    }

    /// The profile.
    pub fn profile(&self) -> Outcome<Profile> {
        if !self.profile_dir().exists() {
            return Err(Failure::new(
                Code::NoProfile,
                format!(
                    "there is no profile \"{}\" in {}",
                    self.settings.profile.0,
                    self.profile_dir().display()
                ),
            )
            .next(format!(
                "Make it with `quorate --profile {} principal request`, and have an administrator add \
                 it; or make a cluster: `quorate dev` on this machine, `quorate cluster create` of \
                 other nodes.",
                self.settings.profile.0
            )));
        }
        Ok(Profile::open(self.profile_dir())?)
    }

    /// A client of the profile's cluster.
    pub fn client(&self) -> Outcome<Client> {
        let mut builder = Client::builder(&self.profile()?)?;
        let mut timeouts = quorate_sdk::Timeouts::default();
        if let Some(hedge) = self.settings.hedge() {
            timeouts.hedge = hedge;
        }
        if let Some(timeout) = self.settings.timeout() {
            timeouts.request = timeout;
        }
        builder = builder.timeouts(timeouts);
        let client = builder.build()?;
        CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).push(client.clone());
        Ok(client)
    }

    /// A client whose cluster has all documents that this profile made.
    ///
    /// Documents made here are kept until every node has confirmed them, and offered again by each
    /// command that administers something, so that a node that was down gets them later.
    pub async fn administrator(&self) -> Outcome<Client> {
        let client = self.client()?;
        let path = self.profile_dir().join(PENDING);
        let Some(documents) = pending(&path)? else { return Ok(client) };
        let delivered = client.put_documents(&documents).await;
        if delivered.confirmed() == delivered.of() {
            std::fs::remove_file(&path).map_err(|e| Failure::writing(&path, &e))?;
        }
        for node in &delivered.nodes {
            if let Err(why) = &node.result {
                self.out.warn(&format!(
                    "{} has not stored earlier documents of the administrator yet: {why}",
                    node.name
                ));
            }
        }
        Ok(client)
    }

    /// Hands nodes the documents that they lack. What comes of it is told where it is worth a line, and stops
    /// nothing.
    pub async fn carry(&self, client: &Client) {
        let Ok(synced) = client.sync_documents().await else { return };
        for node in synced.nodes.iter().filter(|n| n.accepted > 0) {
            self.out.note(&format!(
                "{} lacked {} documents and has them now",
                node.name, node.accepted
            ));
        }
    }

    /// Whether documents are kept that not every node has confirmed.
    pub fn has_pending(&self) -> bool {
        self.profile_dir().join(PENDING).exists()
    }

    /// A secret file of the profile that others may use, where that is why it is not used.
    pub fn exposed_key(&self) -> Option<PathBuf> {
        match Profile::open(self.profile_dir()) {
            Err(quorate_sdk::Error::Profile(ProfileError::Permissions { path, .. })) => Some(path),
            _ => None,
        }
    }

    /// Keeps documents, beside those that are kept already, until every node has confirmed them.
    pub fn keep_pending(&self, documents: &[Envelope]) -> Outcome {
        let path = self.profile_dir().join(PENDING);
        let mut all = pending(&path)?.unwrap_or_default();
        all.extend(documents.iter().filter(|d| !all.contains(d)).cloned().collect::<Vec<_>>());
        let bytes = serde_json::to_vec_pretty(&all)
            .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        crate::files::atomic::write_private(&path, &bytes, true)
    }

    /// Forgets what was kept for nodes that had not confirmed it: all have.
    pub fn forget_pending(&self) -> Outcome {
        let path = self.profile_dir().join(PENDING);
        std::fs::remove_file(&path).map_err(|e| Failure::writing(&path, &e))
    }

    /// Offers a change again, where it is asked for, until every node has confirmed it or the time is over, and
    /// keeps it for later where some have not.
    pub async fn settle(
        &self,
        client: &Client,
        delivered: quorate_sdk::Delivered,
        wait: WaitArgs,
    ) -> Outcome<quorate_sdk::Delivered> {
        let mut delivered = delivered;
        self.keep_undelivered(&delivered)?;
        if wait.wait.is_none() {
            return Ok(delivered);
        }
        let bar = self.out.steps();
        let since = std::time::Instant::now();
        let limit = std::time::Duration::from_secs(wait.wait_seconds);
        while delivered.confirmed() < delivered.of() && since.elapsed() < limit {
            bar.set_message(format!(
                "confirmed by {} of {} nodes; waiting for the others",
                delivered.confirmed(),
                delivered.of()
            ));
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            delivered = client.put_documents(&delivered.documents).await;
        }
        bar.finish_and_clear();
        Ok(delivered)
    }

    /// Keeps documents that were delivered to some nodes and not to all.
    pub fn keep_undelivered(&self, delivered: &quorate_sdk::Delivered) -> Outcome {
        if delivered.confirmed() == delivered.of() {
            return Ok(());
        }
        self.keep_pending(&delivered.documents)
    }

    /// The key to encrypt under: named, configured, or the only one there is.
    pub async fn key(&self, client: &Client, named: Option<&str>) -> Outcome<Key> {
        if let Some(name) = named.or(self.settings.settings.key.as_deref()) {
            return Ok(client.key(name).await?);
        }
        let keys = client.list_keys().await?;
        match keys.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Failure::new(Code::NoKeyChosen, "there is no key yet")
                .next("Make one with `quorate key create NAME`.")),
            several => {
                let names: Vec<_> = several.iter().map(Key::alias).collect();
                Err(Failure::new(
                    Code::NoKeyChosen,
                    format!("there are several keys: {}", names.join(", ")),
                ))
            }
        }
    }

    /// Prints what the client noticed on the way.
    pub fn warnings(&self, client: &Client) {
        for warning in client.warnings() {
            self.out.warn(&warning.to_string());
        }
    }
}

/// The documents in a file of pending ones, where there is one.
fn pending(path: &Path) -> Outcome<Option<Vec<Envelope>>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::reading(path, &e)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| Failure::new(Code::Config, format!("{}: {e}", path.display())))
}

/// The encryption context of the command line.
pub fn context(args: &ContextArgs) -> Outcome<EncryptionContext> {
    let mut pairs = Vec::with_capacity(args.context.len());
    for text in &args.context {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Failure::new(
                Code::Usage,
                format!("--context {} has no =", text.escape_debug()),
            )
            .next("Give each pair as --context KEY=VALUE."));
        };
        pairs.push((key, value));
    }
    EncryptionContext::new(pairs).map_err(|e| Failure::new(Code::Usage, e.to_string()))
}

impl From<quorate_sdk::Error> for Failure {
    fn from(error: quorate_sdk::Error) -> Self {
        use quorate_sdk::Error as E;
        let change = match &error {
            E::Unfinished(change) => Some(change.clone()),
            _ => None,
        };
        let exit = match &error {
            E::NotQuorate(_) => Exit::NotQuorate,
            E::SharesLost(lost) if !lost.for_good() => Exit::NotQuorate,
            E::Key(quorate_sdk::KeyError::Exists { .. }) | E::Committee(_) => Exit::Usage,
            E::Refused(_) | E::Cluster(quorate_sdk::ClusterError::PrincipalRevoked(_)) => {
                Exit::Refused
            }
            E::Fragment(e) => match e {
                quorate_sdk::FragmentError::Missing { .. }
                | quorate_sdk::FragmentError::Damaged { .. } => Exit::NotAuthentic,
                _ => Exit::Usage,
            },
            E::Ceremony(_) => Exit::General,
            // The code is a node's; whether this client or a node says it must make no difference.
            _ if quorate_sdk::RefusalCode::from_code(error.code()).is_some() => Exit::Refused,
            E::Object(_) | E::Invitation(_) => Exit::NotAuthentic,
            E::Request(_)
            | E::Profile(_)
            | E::Cluster(
                quorate_sdk::ClusterError::TenantUnknown(_)
                | quorate_sdk::ClusterError::PolicyUnknown(_)
                | quorate_sdk::ClusterError::GrantUnknown(_)
                | quorate_sdk::ClusterError::NotAdministrator(_)
                | quorate_sdk::ClusterError::ChangeInvalid(_)
                | quorate_sdk::ClusterError::ChangeStale(_),
            ) => Exit::Usage,
            E::Stream { .. } => Exit::Files,
            _ => Exit::General,
        };
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            unchanged: error.unchanged().to_string(),
            next: error.next().to_string(),
            exit,
            change,
        }
    }
}

/// A path as it is printed and written in JSON.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// `path` with `.quorate` after its name.
pub fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(crate::files::SUFFIX);
    path.with_file_name(name)
}

/// `path` without `.quorate`, where it ends so.
pub fn without_suffix(path: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.file_name()?.as_bytes().strip_suffix(crate::files::SUFFIX.as_bytes())?;
    if bytes.is_empty() {
        return None;
    }
    Some(path.with_file_name(std::ffi::OsString::from_vec(bytes.to_vec())))
}

/// One file's result in a summary.
#[derive(Debug, Serialize)]
pub struct FileFailure {
    /// The file.
    pub path: String,
    /// Why it failed.
    #[serde(flatten)]
    pub failure: Failure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_come_and_go() {
        assert_eq!(with_suffix(Path::new("x/a.pdf")), Path::new("x/a.pdf.quorate"));
        assert_eq!(without_suffix(Path::new("x/a.pdf.quorate")).unwrap(), Path::new("x/a.pdf"));
        assert!(without_suffix(Path::new("a.pdf")).is_none());
        assert!(without_suffix(Path::new(".quorate")).is_none());
    }

    #[test]
    fn a_context_without_equals_sign_is_refused() {
        let bad = ContextArgs { context: vec!["case".into()] };
        assert_eq!(context(&bad).unwrap_err().code, "usage");
        let good = ContextArgs { context: vec!["b=2".into(), "a=1=1".into()] };
        assert_eq!(context(&good).unwrap().pairs()[0], ("a".into(), "1=1".into()));
    }
}
