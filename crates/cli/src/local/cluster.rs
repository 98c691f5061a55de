//! A whole cluster on this machine: nodes made, joined, started, and ready.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_sdk::{Client, Jurisdiction};
use quorate_server::InitOptions;

use super::processes::{NodeProcess, Place, end_all, free_ports, private_folder};
use crate::app::App;
use crate::args::NodeArgs;
use crate::commands::{cluster, node};
use crate::failure::{Code, Failure, Outcome, plain};

/// How long all nodes together may take to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a cluster's nodes are written down, for the next start.
const PLACES: &str = "nodes.json";

/// The laws of so many nodes on this machine, where nobody says otherwise.
pub fn local_laws(count: u16) -> Outcome<Vec<Jurisdiction>> {
    let law: Jurisdiction =
        "EU".parse().map_err(|_| Failure::new(Code::Internal, "EU is no jurisdiction"))?;
    Ok(vec![law; usize::from(count)])
}

/// The nodes of a cluster on this machine.
pub struct LocalCluster {
    /// The nodes, in the roster's order.
    pub nodes: Vec<NodeProcess>,
}

/// How full a developer's own disk is concerns no cluster: every second machine would be warned of it, by each
/// node. A disk that is full stops the nodes all the same.
fn silence_disk(data_dir: &Path) -> Outcome {
    let path = data_dir.join(quorate_server::CONFIG_FILE);
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(b"disk_warning_percent = 101\ndisk_alarm_percent = 101\n")
        })
        .map_err(|e| Failure::new(Code::Config, format!("{}: {}", path.display(), plain(&e))))
}

impl LocalCluster {
    /// Makes a node in `dir` under each of these laws, and a cluster of them; the app's profile administers it.
    pub async fn create(
        app: &App,
        dir: &Path,
        laws: &[Jurisdiction],
        base_port: Option<u16>,
    ) -> Outcome<Self> {
        let count = laws.len();
        let addresses = match base_port {
            None => free_ports(count)?,
            Some(base) => (0..u16::try_from(count).unwrap_or(u16::MAX))
                .map(|i| base.checked_add(i).map(|port| SocketAddr::from(([127, 0, 0, 1], port))))
                .collect::<Option<_>>()
                .ok_or_else(|| Failure::new(Code::Usage, "--base-port leaves no ports"))?,
        };
        // The roster names the ports for good, so they are tried before it is made.
        for address in &addresses {
            std::net::TcpListener::bind(address).map_err(|e| {
                Failure::new(Code::Usage, format!("{address} cannot be listened at: {}", plain(&e)))
                    .unchanged("Nothing was made.")
                    .next("Choose another --base-port, or none for free ones.")
            })?;
        }
        private_folder(dir)?;
        let mut places = Vec::with_capacity(count);
        let mut cards = Vec::with_capacity(count);
        for (i, (listen, law)) in addresses.into_iter().zip(laws).enumerate() {
            let name = format!("node-{}", i + 1);
            let data_dir = dir.join(&name);
            // In a real cluster the root key is on another disk than the data.
            let keys = dir.join("root-keys");
            private_folder(&keys)?;
            let place = Place {
                name,
                data_dir,
                root_key_file: keys.join(format!("{}.key", i + 1)),
                listen,
            };
            quorate_server::init(InitOptions {
                data_dir: place.data_dir.clone(),
                name: place.name.clone(),
                provider: format!("provider-{}", i + 1),
                jurisdiction: law.to_string(),
                listen,
                urls: vec![format!("https://{listen}")],
                root_key_file: Some(place.root_key_file.clone()),
                passphrase: None,
            })
            .await
            .map_err(|e| Failure::new(Code::NodeFailed, node::whole(&e)))?;
            silence_disk(&place.data_dir)?;
            cards.push(node::card(&place.data_dir)?);
            places.push(place);
        }
        let bundle = cluster::create(app, "local", cards)?;
        let roster = dir.join("cluster.roster");
        cluster::write_roster(&roster, &bundle.roster)?;
        for place in &places {
            let args = NodeArgs {
                data_dir: place.data_dir.clone(),
                root_key_file: Some(place.root_key_file.clone()),
                root_passphrase_file: None,
            };
            cluster::join(&roster, &bundle.cluster.to_string(), &args).await?;
        }
        let text = serde_json::to_vec_pretty(&places)
            .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        crate::files::atomic::write_private(&dir.join(PLACES), &text, false)?;
        Ok(Self { nodes: places.into_iter().map(NodeProcess::stopped).collect() })
    }

    /// The cluster that an earlier run made in `dir`, if any.
    pub fn load(dir: &Path) -> Outcome<Option<Self>> {
        let path: PathBuf = dir.join(PLACES);
        let Ok(text) = std::fs::read(&path) else { return Ok(None) };
        let places: Vec<Place> = serde_json::from_slice(&text)
            .map_err(|e| Failure::new(Code::Config, format!("{}: {e}", path.display())))?;
        Ok(Some(Self { nodes: places.into_iter().map(NodeProcess::stopped).collect() }))
    }

    /// Starts every node that does not run, and waits until all answer and have all documents.
    pub async fn start(&mut self, app: &App) -> Outcome {
        for node in &mut self.nodes {
            node.start()?;
        }
        let since = Instant::now();
        loop {
            let client = app.client()?;
            let statuses = client.cluster_status().await;
            // A node refuses its status until it knows the first principal; it answers all the same.
            let silent: Vec<_> = statuses
                .iter()
                .filter(|s| matches!(s.status, Err(quorate_sdk::NodeFailure::Unreachable(_))))
                .map(|s| s.entry.name.clone())
                .collect();
            if silent.is_empty() {
                break;
            }
            for node in &mut self.nodes {
                if let Some(status) = node.ended() {
                    return Err(Failure::new(
                        Code::NodeFailed,
                        format!("{} ended ({status}):\n{}", node.place.name, node.last_words()),
                    ));
                }
            }
            if since.elapsed() > PATIENCE {
                return Err(Failure::new(
                    Code::NodeFailed,
                    format!("these nodes do not answer: {}", silent.join(", ")),
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        app.administrator().await?;
        Ok(())
    }

    /// Kills these nodes as a power cut would, and forgets nothing of theirs.
    pub fn kill(&mut self, positions: std::ops::Range<usize>) -> Vec<String> {
        let mut names = Vec::new();
        for node in self.nodes.get_mut(positions).unwrap_or_default() {
            node.kill();
            names.push(node.place.name.clone());
        }
        names
    }

    /// Ends all nodes.
    pub fn end(&mut self) {
        end_all(&mut self.nodes);
    }

    /// Resident memory of the nodes that answer, in bytes.
    pub async fn memory(&self, client: &Client) -> Vec<u64> {
        let statuses = client.cluster_status().await;
        statuses
            .iter()
            .filter_map(|s| s.status.as_ref().ok())
            .map(|r| r.status.resident_bytes)
            .collect()
    }
}
