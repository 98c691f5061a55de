//! `quorate dev`: a cluster for development, in the foreground.

use crate::app::App;
use crate::args::{Common, Dev};
use crate::failure::{Code, Failure, Outcome};
use crate::local::cluster::LocalCluster;

/// The profile that `dev` makes where none is named.
const PROFILE: &str = "dev";
/// The key that a new cluster gets.
const KEY: &str = "dev";

/// Runs it.
pub async fn run(common: &Common, args: Dev) -> Outcome {
    let mut common = common.clone();
    common.profile.get_or_insert_with(|| PROFILE.to_owned());
    let app = App::new(&common)?;
    quorate_sdk::Threshold::new(args.threshold, args.nodes)
        .map_err(|e| Failure::new(Code::Usage, e.to_string()))?;
    let dir = args.dir.clone().unwrap_or_else(|| app.settings.home.join(&app.settings.profile.0));
    let (mut cluster, new) = match LocalCluster::load(&dir)? {
        Some(cluster) => (cluster, false),
        None => {
            if dir.exists() && dir.read_dir().is_ok_and(|mut d| d.next().is_some()) {
                return Err(Failure::new(
                    Code::NodeFailed,
                    format!(
                        "{} holds something else, or a cluster that was not finished",
                        dir.display()
                    ),
                )
                .next("Remove it, or choose another folder with --dir."));
            }
            app.out.note(&format!("making {} nodes in {}", args.nodes, dir.display()));
            (LocalCluster::create(&app, &dir, args.nodes, args.base_port).await?, true)
        }
    };
    let done = serve(&app, &args, &mut cluster, new).await;
    cluster.end();
    if done.is_ok() {
        app.out.note("stopped; run it again and everything is as it was");
    }
    done
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
            threshold: args.threshold,
            // A cluster on a laptop may be N-of-N to try that out.
            allow_fragile: true,
            ..quorate_sdk::KeySpecRequest::default()
        };
        client.create_key(request, |_| ()).await?;
    }
    let profile = &app.settings.profile.0;
    let key = client.key(KEY).await?;
    let threshold = key.versions().last().map_or(String::new(), |v| v.threshold.to_string());
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
             quorate --profile {profile} key create docs\n\nCtrl-C stops it; its data stay.",
            ready.nodes.join(" ")
        )
    });
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    let mut watch = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = watch.tick() => {
                for node in &mut cluster.nodes {
                    if let Some(status) = node.ended() {
                        app.out.warn(&format!("{} ended ({status}); starting it again", node.place.name));
                        node.kill();
                        node.start()?;
                    }
                }
            }
        }
    }
}
