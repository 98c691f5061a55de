//! `quorate dev`: a cluster for development, in the foreground.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_sdk::{Jurisdiction, Profile};
use rustix::fs::{FlockOperation, flock};

use crate::app::App;
use crate::args::{Common, Dev};
use crate::failure::{Code, Failure, Outcome};
use crate::local::cluster::{LocalCluster, local_laws};
use crate::local::processes::private_folder;

/// The profile that `dev` makes where none is named.
const PROFILE: &str = "dev";
/// The key that a new cluster gets.
const KEY: &str = "dev";
/// The file that only one run at a time holds.
const LOCK: &str = "dev.lock";
/// A node that ends so often within so long is not started again.
const ENDS: usize = 3;
const WITHIN: Duration = Duration::from_secs(10);

/// Runs it.
pub async fn run(common: &Common, args: Dev) -> Outcome {
    let mut common = common.clone();
    common.profile.get_or_insert_with(|| PROFILE.to_owned());
    let app = App::new(&common)?;
    let threshold = args.threshold.unwrap_or(2);
    let laws = laws(&args)?;
    let nodes = u16::try_from(laws.len()).unwrap_or(u16::MAX);
    let dir = args.dir.clone().unwrap_or_else(|| app.settings.home.join(&app.settings.profile.0));
    if !dir.exists() {
        spare_profile(&app, &dir)?;
    }
    let _lock = lock(&app, &dir)?;
    let (mut cluster, new) = match LocalCluster::load(&dir)? {
        Some(cluster) => {
            if args.nodes.is_some_and(|n| usize::from(n) != cluster.nodes.len()) {
                app.out.warn(&format!(
                    "--nodes is ignored: {} holds a cluster of {} nodes already",
                    dir.display(),
                    cluster.nodes.len()
                ));
            }
            if !args.jurisdiction.is_empty() {
                app.out.warn(&format!(
                    "--jurisdiction is ignored: {} holds a cluster already",
                    dir.display()
                ));
            }
            let first = cluster.nodes.first().map(|node| node.place.listen.port());
            if args.base_port.is_some() && args.base_port != first {
                app.out.warn(&format!(
                    "--base-port is ignored: the nodes in {} keep their ports",
                    dir.display()
                ));
            }
            (cluster, false)
        }
        None => {
            spare_profile(&app, &dir)?;
            quorate_sdk::Threshold::new(threshold, nodes)
                .map_err(|e| Failure::new(Code::Usage, e.to_string()))?;
            let other = |e: std::io::Result<std::fs::DirEntry>| {
                e.is_ok_and(|e| e.file_name().as_encoded_bytes() != LOCK.as_bytes())
            };
            if dir.read_dir().is_ok_and(|mut entries| entries.any(other)) {
                return Err(Failure::new(
                    Code::NodeFailed,
                    format!(
                        "{} holds something else, or a cluster that was not finished",
                        dir.display()
                    ),
                )
                .next("Remove it, or choose another folder with --dir."));
            }
            app.out.note(&format!("making {nodes} nodes in {}", dir.display()));
            (LocalCluster::create(&app, &dir, &laws, args.base_port).await?, true)
        }
    };
    let done = serve(&app, &args, &mut cluster, new).await;
    cluster.end();
    if done.is_ok() {
        app.out.note("stopped; run it again and everything is as it was");
    }
    done
}

/// Whose law each node of a new cluster answers to.
fn laws(args: &Dev) -> Outcome<Vec<Jurisdiction>> {
    if args.jurisdiction.is_empty() {
        return local_laws(args.nodes.unwrap_or(3));
    }
    let laws = args.jurisdiction.iter().map(|law| law.parse::<Jurisdiction>());
    laws.collect::<Result<_, _>>().map_err(|e| Failure::new(Code::Usage, e.to_string()))
}

/// Refuses where the profile belongs to a cluster whose nodes are not here any more: new nodes would be
/// made, and then have no profile.
fn spare_profile(app: &App, dir: &Path) -> Outcome {
    let profile = app.profile_dir();
    if !profile.exists() || Profile::open(profile)?.membership().is_none() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Usage,
        format!(
            "the profile \"{}\" belongs to a cluster already, and {} holds none",
            app.settings.profile.0,
            dir.display()
        ),
    )
    .next(format!(
        "Choose another --profile; or, where that cluster was a development one and is gone, remove {}.",
        profile.display()
    )))
}

/// Takes the folder for this run; the kernel gives it back when the process ends, in whatever way.
fn lock(app: &App, dir: &Path) -> Outcome<File> {
    private_folder(dir)?;
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Failure::writing(&path, &e))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let profile = &app.settings.profile.0;
        Failure::new(Code::Usage, format!("another `quorate dev` runs in {}", dir.display()))
            .next(format!("Use that one with `quorate --profile {profile}`, or end it first."))
    })?;
    Ok(file)
}

async fn serve(app: &App, args: &Dev, cluster: &mut LocalCluster, new: bool) -> Outcome {
    cluster.start(app).await?;
    let client = app.client()?;
    let unfinished = match client.key(KEY).await {
        Ok(key) => key.newest_version().is_none(),
        Err(_) => false,
    };
    if unfinished {
        client.resume_key(KEY, |_| ()).await?;
    } else if new || client.list_keys().await?.is_empty() {
        let request = quorate_sdk::KeySpecRequest {
            alias: KEY.to_owned(),
            threshold: args.threshold.unwrap_or(2),
            // A cluster on a laptop may be N-of-N to try that out.
            allow_fragile: true,
            ..quorate_sdk::KeySpecRequest::default()
        };
        client.create_key(request, |_| ()).await?;
    }
    let profile = &app.settings.profile.0;
    let key = client.key(KEY).await?;
    let version = key.versions().pop();
    if let (Some(told), Some(made)) = (args.threshold, &version)
        && told != made.threshold.t()
    {
        app.out.warn(&format!(
            "--threshold is ignored: the key \"{KEY}\" is {} already",
            made.threshold
        ));
    }
    let threshold = version.map_or(String::new(), |v| v.threshold.to_string());
    #[derive(serde::Serialize)]
    struct Ready<'a> {
        profile: &'a str,
        key: &'a str,
        threshold: &'a str,
        nodes: Vec<String>,
    }
    let ready = Ready {
        profile,
        key: KEY,
        threshold: &threshold,
        nodes: cluster.nodes.iter().map(|n| format!("https://{}", n.place.listen)).collect(),
    };
    app.out.result(&ready, || {
        format!(
            "{threshold} cluster is ready: {}\n\nIn a second terminal:\n  \
             quorate --profile {profile} encrypt FILE\n  \
             quorate --profile {profile} decrypt FILE.quorate --output COPY\n  \
             quorate --profile {profile} cluster status\n  \
             quorate --profile {profile} key list\n\nCtrl-C stops it; its data stay.",
            ready.nodes.join(" ")
        )
    });
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e| Failure::new(Code::Internal, e.to_string()));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut watch = tokio::time::interval(Duration::from_secs(1));
    let mut ends: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            _ = watch.tick() => {
                for node in &mut cluster.nodes {
                    if let Some(status) = node.ended() {
                        let ends = ends.entry(node.place.name.clone()).or_default();
                        ends.retain(|at| at.elapsed() < WITHIN);
                        ends.push(Instant::now());
                        if ends.len() >= ENDS {
                            return Err(Failure::new(
                                Code::NodeFailed,
                                format!(
                                    "{} has ended {ENDS} times within {} s ({status}):\n{}",
                                    node.place.name,
                                    WITHIN.as_secs(),
                                    node.last_words()
                                ),
                            ));
                        }
                        app.out.warn(&format!("{} ended ({status}); starting it again", node.place.name));
                        node.kill();
                        node.start()?;
                    }
                }
            }
        }
    }
}
