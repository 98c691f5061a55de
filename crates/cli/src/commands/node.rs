//! `quorate node`: one key server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate_sdk::{KeyPurpose, NodeCard};
use quorate_server::{InitOptions, OfferOptions, RootKeySource, RotateRootOptions, RunOptions};
use serde::Serialize;

use crate::app::shown;
use crate::args::{Node as Command, NodeArgs};
use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::output::Output;

/// An error with the errors behind it, in one line.
pub fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// What a node's error is for whoever called the command.
pub fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::NodeFailed, whole(error))
}

/// What unlocks the node.
pub fn root_key(args: &NodeArgs) -> Outcome<RootKeySource> {
    match (&args.root_key_file, &args.root_passphrase_file) {
        (Some(file), _) => Ok(RootKeySource::KeyFile(file.clone())),
        (None, Some(file)) => Ok(RootKeySource::Passphrase(files::passphrase(file)?)),
        (None, None) => {
            let configured =
                quorate_server::NodeConfig::load(&args.data_dir).ok().and_then(|c| c.root_key_file);
            configured.map(RootKeySource::KeyFile).ok_or_else(|| {
                Failure::new(Code::Usage, "nothing says what unlocks the node's root key").next(
                    "Give --root-key-file, or set QUORATE_ROOT_KEY_FILE or root_key_file in node.toml.",
                )
            })
        }
    }
}

#[derive(Serialize)]
struct Card {
    node: String,
    name: String,
    provider: String,
    jurisdiction: String,
    urls: Vec<String>,
    card: String,
    fingerprint: String,
}

/// The card in a data folder, read as a stranger would.
pub fn card(data_dir: &Path) -> Outcome<NodeCard> {
    let path = data_dir.join(quorate_server::CARD_FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::reading(&path, &e))?;
    Ok(NodeCard::parse(&text).map_err(quorate_sdk::Error::from)?)
}

fn print_card(out: Output, data_dir: &Path) -> Outcome {
    let card = card(data_dir)?;
    let entry = card.entry();
    let value = Card {
        node: entry.id.to_string(),
        name: entry.name.clone(),
        provider: entry.provider.clone(),
        jurisdiction: entry.jurisdiction.to_string(),
        urls: entry.urls.iter().map(ToString::to_string).collect(),
        card: shown(&data_dir.join(quorate_server::CARD_FILE)),
        fingerprint: card.fingerprint().to_string(),
    };
    out.result(&value, || {
        crate::output::table(&[
            vec!["node".into(), format!("{} ({})", value.name, value.node)],
            vec!["reached at".into(), value.urls.join(", ")],
            vec!["card".into(), value.card.clone()],
            vec!["fingerprint".into(), value.fingerprint.clone()],
        ])
    });
    Ok(())
}

/// Runs it.
pub async fn run(out: Output, command: Command) -> Outcome {
    match command {
        Command::Init { node, name, provider, jurisdiction, listen, url } => {
            let urls = if url.is_empty() { vec![format!("https://{listen}")] } else { url };
            let passphrase = match (&node.root_key_file, &node.root_passphrase_file) {
                (_, Some(file)) => Some(files::passphrase(file)?),
                (Some(_), None) => None,
                (None, None) => {
                    return Err(Failure::new(
                        Code::Usage,
                        "nothing says what is to unlock the node's root key",
                    )
                    .next(
                        "Give --root-key-file (made if it is not there) or --root-passphrase-file.",
                    ));
                }
            };
            let options = InitOptions {
                data_dir: node.data_dir.clone(),
                name,
                provider,
                jurisdiction,
                listen,
                urls,
                root_key_file: node.root_key_file.clone(),
                passphrase,
            };
            quorate_server::init(options).await.map_err(|e| failed(&e))?;
            print_card(out, &node.data_dir)?;
            out.note(
                "Give the card and, by another channel, its fingerprint to the cluster's \
                 administrator. Then join the roster that comes back: quorate cluster join",
            );
            Ok(())
        }
        Command::Status { node } => print_card(out, &node.data_dir),
        Command::Rotate {
            node,
            identity,
            tls,
            log,
            withdraw,
            root_key: of_root,
            new_root_key_file,
            new_root_passphrase_file,
        } => {
            if of_root {
                return rotate_root(out, &node, new_root_key_file, new_root_passphrase_file).await;
            }
            let purposes =
                [(identity, KeyPurpose::Identity), (tls, KeyPurpose::Tls), (log, KeyPurpose::Log)];
            let purposes: Vec<_> =
                purposes.into_iter().filter(|(is, _)| *is).map(|(_, purpose)| purpose).collect();
            if purposes.is_empty() && !withdraw {
                return Err(Failure::new(Code::Usage, "nothing says which keys to replace")
                    .next("Give --identity, --tls, --log, or --root-key."));
            }
            offer(out, &node, purposes, withdraw).await
        }
        Command::NewLog { node } => {
            let begun = quorate_server::begin_log(&node.data_dir, &root_key(&node)?).await;
            begun.map_err(|e| failed(&e))?;
            print_card(out, &node.data_dir)?;
            out.note(&format!(
                "Give the card and, by another channel, its fingerprint to the cluster's administrators; \
                 until they have put it into the next roster, the node serves nobody:\n  {UPDATE}"
            ));
            Ok(())
        }
        Command::Backup(args) => super::backup::backup(out, args).await,
        Command::Restore(args) => super::backup::restore(out, args).await,
        Command::Finalize(args) => super::upgrade::finalize(out, &args),
        Command::Run { node, health_address, log_json, until_stdin_closes } => {
            serve(&node, health_address, log_json, until_stdin_closes).await
        }
    }
}

/// What administrators do with a card.
pub const UPDATE: &str = "quorate cluster update node-card.json --fingerprint digest-...";

async fn offer(out: Output, node: &NodeArgs, purposes: Vec<KeyPurpose>, withdraw: bool) -> Outcome {
    let options = OfferOptions {
        data_dir: node.data_dir.clone(),
        root_key: root_key(node)?,
        purposes,
        withdraw,
    };
    let offer = quorate_server::offer_keys(options).await.map_err(|e| failed(&e))?;
    #[derive(Serialize)]
    struct Offered {
        node: String,
        name: String,
        offered: Vec<&'static str>,
        card: String,
        fingerprint: String,
    }
    let value = Offered {
        node: offer.entry.id.to_string(),
        name: offer.entry.name.clone(),
        offered: offer.offered.iter().map(|purpose| purpose.name()).collect(),
        card: shown(&node.data_dir.join(quorate_server::CARD_FILE)),
        fingerprint: offer.fingerprint.to_string(),
    };
    out.result(&value, || {
        let offered =
            if value.offered.is_empty() { "nothing".to_owned() } else { value.offered.join(", ") };
        crate::output::table(&[
            vec!["node".into(), format!("{} ({})", value.name, value.node)],
            vec!["new keys".into(), offered],
            vec!["card".into(), value.card.clone()],
            vec!["fingerprint".into(), value.fingerprint.clone()],
        ])
    });
    if !value.offered.is_empty() {
        out.note(&format!(
            "Start the node; it goes on with its old keys. Give the card and, by another channel, its \
             fingerprint to the cluster's administrators:\n  {UPDATE}"
        ));
    }
    Ok(())
}

async fn rotate_root(
    out: Output,
    node: &NodeArgs,
    key_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
) -> Outcome {
    let mut new: Vec<RootKeySource> = key_file.into_iter().map(RootKeySource::KeyFile).collect();
    if let Some(file) = &passphrase_file {
        new.push(RootKeySource::Passphrase(files::passphrase(file)?));
    }
    if new.is_empty() {
        return Err(Failure::new(Code::Usage, "nothing says what is to unlock the new root key")
            .next(
                "Give --new-root-key-file (made if it is not there) or --new-root-passphrase-file.",
            ));
    }
    let options =
        RotateRootOptions { data_dir: node.data_dir.clone(), root_key: root_key(node)?, new };
    let rotated = quorate_server::rotate_root_key(options).await.map_err(|e| failed(&e))?;
    #[derive(Serialize)]
    struct Rotated {
        sealed_anew: usize,
        unlocked_by: Vec<String>,
        root_key_file: Option<String>,
    }
    let slots = rotated.slots.iter().map(|(number, kind)| format!("{kind} (slot {number})"));
    let value = Rotated {
        sealed_anew: rotated.rows,
        unlocked_by: slots.collect(),
        root_key_file: rotated.configured.as_deref().map(shown),
    };
    out.result(&value, || {
        crate::output::table(&[
            vec!["sealed anew".into(), format!("{} rows", value.sealed_anew)],
            vec!["unlocked by".into(), value.unlocked_by.join(", ")],
            vec![
                "node.toml names".into(),
                value.root_key_file.clone().unwrap_or_else(|| "no key file".to_owned()),
            ],
        ])
    });
    out.note(
        "What opened the node before opens nothing any more: destroy it. Whoever has it and a copy of the disk \
         from its time has the shares and keys that were on that disk; where that may be, replace those too: \
         node rotate --identity --tls --log, and key rotate.",
    );
    Ok(())
}

async fn serve(
    node: &NodeArgs,
    health: Option<SocketAddr>,
    log_json: bool,
    until_stdin_closes: bool,
) -> Outcome {
    let config = quorate_server::NodeConfig::load(&node.data_dir).map_err(|e| failed(&e))?;
    let filter = std::env::var("QUORATE_LOG").unwrap_or_else(|_| config.log.clone());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter)
        .map_err(|e| Failure::new(Code::Config, format!("log filter \"{filter}\": {e}")))?;
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    if log_json {
        logging.json().init();
    } else {
        logging.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stdout())).init();
    }
    let options = RunOptions {
        data_dir: node.data_dir.clone(),
        root_key: Some(root_key(node)?),
        listen: None,
        health,
        software: quorate_sdk::SOFTWARE.to_owned(),
        on_ready: Box::new(|_| ()),
    };
    // Before any secret is read. It logs what it obtained.
    let _ = quorate_server::hygiene::apply();
    quorate_server::run(options, told_to_end(until_stdin_closes)).await.map_err(|e| failed(&e))
}

/// Ends at SIGTERM or SIGINT, or, where asked to, when standard input closes.
pub async fn told_to_end(until_stdin_closes: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    let closed = async {
        if !until_stdin_closes {
            std::future::pending::<()>().await;
        }
        // A thread of its own: tokio's standard input would keep the runtime from ending.
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = tell.send(());
        });
        let _ = told.await;
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
        () = closed => {}
    }
}
