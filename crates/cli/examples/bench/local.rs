//! Clusters of `quorate node run` processes on loopback, and a client of them.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate_sdk::{
    AdminKey, Client, ClusterRequest, EncryptionContext, Key, KeySpecRequest, NodeCard,
    NodeFailure, Profile, create_cluster,
};
use quorate_server::{InitOptions, JoinOptions, RootKeySource};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::measure::round;
use crate::{Failure, Plan};

/// How long all nodes together may take to answer, however many.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a node may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// A cluster whose nodes all run. Dropped, it ends them and removes their files.
pub struct Local {
    pub runtime: Runtime,
    pub client: Client,
    /// Seconds to make the nodes and their cluster, before any runs.
    pub made_in: f64,
    /// Seconds until all processes answered and had the first documents.
    pub started_in: f64,
    nodes: Vec<Child>,
    places: Vec<Place>,
    timeouts: quorate_sdk::Timeouts,
    dir: TempDir,
}

struct Place {
    data_dir: PathBuf,
    root_key_file: PathBuf,
}

impl Local {
    /// Makes and starts `n` nodes.
    pub fn start(plan: &Plan, n: u16) -> Result<Self, Failure> {
        if !plan.binary.exists() {
            let binary = plan.binary.display();
            return Err(format!("{binary} is missing: cargo build --release --bin quorate").into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let dir = tempfile::Builder::new().prefix("bench-cluster-").tempdir_in(&plan.scratch)?;
        let making = Instant::now();
        let (places, profile, documents) = runtime.block_on(make(&dir, n))?;
        let made_in = making.elapsed().as_secs_f64();

        let starting = Instant::now();
        // Nobody but the T nodes that are asked first: what is counted is what was asked for.
        let patient = Duration::from_secs(if n > 20 { 600 } else { 60 });
        let timeouts = quorate_sdk::Timeouts {
            hedge: patient,
            request: patient,
            ..quorate_sdk::Timeouts::default()
        };
        let client = Client::builder(&profile)?.timeouts(timeouts).build()?;
        let nodes = Vec::new();
        let started_in = 0.0;
        let mut local = Self { runtime, client, made_in, started_in, nodes, places, timeouts, dir };
        local.spawn(plan)?;
        local.wait_until_ready(&documents)?;
        local.started_in = starting.elapsed().as_secs_f64();
        Ok(local)
    }

    fn spawn(&mut self, plan: &Plan) -> Result<(), Failure> {
        for place in &self.places {
            let log = File::create(place.data_dir.join("node.log"))?;
            let child = Command::new(&plan.binary)
                .args(["node", "run", "--until-stdin-closes", "--data-dir"])
                .arg(&place.data_dir)
                .arg("--root-key-file")
                .arg(&place.root_key_file)
                .stdin(Stdio::piped())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?;
            self.nodes.push(child);
        }
        Ok(())
    }

    /// Ends all nodes and starts them again: what they had in memory is gone.
    pub fn restart(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.end();
        self.nodes.clear();
        self.spawn(plan)?;
        self.wait_until_ready(&[])
    }

    /// Another client of the same nodes.
    pub fn client_of(&self, profile: &Profile) -> Result<Client, Failure> {
        Ok(Client::builder(profile)?.timeouts(self.timeouts).build()?)
    }

    /// The key of the cluster's administrator.
    pub fn administrator(&self) -> Result<AdminKey, Failure> {
        Ok(Profile::open(self.profile_dir())?.admin_key()?)
    }

    fn wait_until_ready(&mut self, documents: &[quorate_sdk::Envelope]) -> Result<(), Failure> {
        let since = Instant::now();
        loop {
            let statuses = self.runtime.block_on(self.client.cluster_status());
            // A node refuses its status until it knows the first principal; it answers all the same.
            let silent = statuses
                .iter()
                .filter(|s| matches!(s.status, Err(NodeFailure::Unreachable(_))))
                .count();
            if silent == 0 {
                break;
            }
            for (number, node) in self.nodes.iter_mut().enumerate() {
                if let Some(status) = node.try_wait()? {
                    let log = self.dir.path().join(format!("node-{}/node.log", number + 1));
                    let text = fs::read_to_string(log).unwrap_or_default();
                    return Err(format!("a node ended ({status}):\n{text}").into());
                }
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("{silent} nodes do not answer").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let delivered = self.runtime.block_on(self.client.put_documents(documents));
        if delivered.confirmed() < delivered.of() {
            return Err(format!("the first documents did not arrive: {delivered:?}").into());
        }
        Ok(())
    }

    /// The nodes' process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Child::id).collect()
    }

    /// The nodes' data directories, in the order of their process ids.
    pub fn data_dirs(&self) -> Vec<PathBuf> {
        (1..=self.nodes.len()).map(|n| self.dir.path().join(format!("node-{n}"))).collect()
    }

    /// The profile that administers the cluster.
    pub fn profile_dir(&self) -> PathBuf {
        self.dir.path().join("profile")
    }

    /// A folder for files of the measurement.
    pub fn folder(&self) -> Result<PathBuf, Failure> {
        let folder = self.dir.path().join("files");
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Makes a key over all nodes, and says how many seconds that took.
    pub fn make_key(&self, threshold: u16, alias: &str) -> Result<(Key, f64), Failure> {
        let request = KeySpecRequest {
            alias: alias.to_owned(),
            threshold,
            allow_fragile: true,
            ..KeySpecRequest::default()
        };
        let start = Instant::now();
        let created = self.runtime.block_on(self.client.create_key(request, |_| ()))?;
        let took = start.elapsed().as_secs_f64();
        if !created.lacking.is_empty() {
            return Err(format!("nodes lack the certificate: {:?}", created.lacking).into());
        }
        Ok((created.key, took))
    }

    /// One encryption, a batch of 4096, and the memory of a node.
    pub fn at_scale(&self, alias: &str) -> Result<Value, Failure> {
        let context = EncryptionContext::default();
        let contexts = std::slice::from_ref(&context);
        let (mut one, mut batch) = (0.0, 0.0);
        let key = self.runtime.block_on(self.client.key(alias))?;
        // The first opens connections to all nodes.
        for _ in 0..2 {
            let start = Instant::now();
            self.runtime.block_on(self.client.encrypt(&key, b"hello", &context))?;
            one = start.elapsed().as_secs_f64();
        }
        let start = Instant::now();
        self.runtime.block_on(self.client.derive_sealing_keys(&key, 4096, contexts))?;
        batch += start.elapsed().as_secs_f64();
        let statuses = self.runtime.block_on(self.client.cluster_status());
        let resident: Vec<f64> = statuses
            .iter()
            .filter_map(|s| s.status.as_ref().ok())
            .map(|report| report.status.resident_bytes as f64 / 1e6)
            .collect();
        let memory = crate::measure::median(&resident);
        println!(
            "  one encryption {:.0} ms, a batch of 4096 {batch:.1} s, {memory:.0} MB a node",
            one * 1e3
        );
        Ok(json!({
            "one_encryption_seconds": round(one, 4),
            "batch_of_4096_seconds": round(batch, 3),
            "node_resident_megabytes": round(memory, 1),
        }))
    }
}

impl Local {
    fn end(&mut self) {
        // A node ends itself when its standard input closes.
        for node in &mut self.nodes {
            drop(node.stdin.take());
        }
        let since = Instant::now();
        for node in &mut self.nodes {
            while matches!(node.try_wait(), Ok(None)) && since.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.end();
    }
}

/// Nodes that do not run yet, and the profile that administers them.
async fn make(
    dir: &TempDir,
    n: u16,
) -> Result<(Vec<Place>, Profile, Vec<quorate_sdk::Envelope>), Failure> {
    let listeners: Vec<TcpListener> =
        (0..n).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    drop(listeners);
    let (mut places, mut cards) = (Vec::new(), Vec::new());
    for (number, listen) in (1..).zip(addresses) {
        let name = format!("node-{number}");
        let place = Place {
            data_dir: dir.path().join(&name),
            root_key_file: dir.path().join(format!("{name}.key")),
        };
        let node = quorate_server::init(InitOptions {
            data_dir: place.data_dir.clone(),
            name,
            provider: format!("provider-{number}"),
            jurisdiction: "EU".to_owned(),
            listen,
            urls: vec![format!("https://{listen}")],
            root_key_file: Some(place.root_key_file.clone()),
            passphrase: None,
        })
        .await?;
        cards.push(NodeCard::from_envelope(node.card)?);
        places.push(place);
    }
    let mut profile = Profile::create(dir.path().join("profile"))?;
    let admin = AdminKey::generate();
    profile.store_admin_key(&admin)?;
    let bundle = create_cluster(ClusterRequest {
        name: "bench".to_owned(),
        cards,
        admin: &admin,
        recovery: None,
        principal_name: "bench".to_owned(),
        principal_key: profile.public_key(),
    })?;
    for place in &places {
        quorate_server::join(JoinOptions {
            data_dir: place.data_dir.clone(),
            root_key: RootKeySource::KeyFile(place.root_key_file.clone()),
            roster: bundle.roster.clone(),
            pinned: bundle.digest,
        })
        .await?;
    }
    let invitation = bundle.invitation();
    profile.accept(&invitation, invitation.fingerprint())?;
    Ok((places, profile, bundle.documents))
}
