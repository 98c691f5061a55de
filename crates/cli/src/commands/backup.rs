//! `quorate node backup` and `quorate node restore`.

use std::fs::File;
use std::io::BufReader;

use quorate_server::{BackupOptions, RestoreOptions, RootKeySource};
use serde::Serialize;

use crate::app::shown;
use crate::args::{BackupArgs, RestoreArgs};
use crate::commands::node::{UPDATE, failed, root_key};
use crate::failure::{Failure, Outcome};
use crate::files::{self, atomic};
use crate::output::{self, Output};

/// Writes a backup.
pub async fn backup(out: Output, args: BackupArgs) -> Outcome {
    let also = match &args.passphrase_file {
        Some(file) => Some(RootKeySource::Passphrase(files::passphrase(file)?)),
        None => None,
    };
    let options = BackupOptions {
        data_dir: args.node.data_dir.clone(),
        root_key: root_key(&args.node)?,
        also,
        with_shares_dangerous: args.with_shares_dangerous,
    };
    if args.with_shares_dangerous {
        out.warn(
            "this backup holds the node's share of every key: whoever opens it has them for ever, and no refresh heals \
             what is in it; destroy it as soon as it is not needed",
        );
    }
    let pending = atomic::Pending::begin(&args.file, false)?.last();
    let file = pending.handle().map_err(|e| Failure::writing(&args.file, &e))?;
    let made = quorate_server::backup(options, file).await.map_err(|e| failed(&e))?;
    pending.finish(Some(atomic::Attributes { mode: 0o600, modified: None }), true)?;
    #[derive(Serialize)]
    struct Value {
        node: String,
        file: String,
        taken_at: u64,
        rows: u64,
        with_shares: bool,
    }
    let value = Value {
        node: made.name,
        file: shown(&args.file),
        taken_at: made.taken_at,
        rows: made.rows,
        with_shares: args.with_shares_dangerous,
    };
    out.result(&value, || {
        let shares = if value.with_shares { "WITH ITS SHARES" } else { "without its shares" };
        format!(
            "{} is in {}, as it was at {}, {shares}: {} rows",
            value.node,
            value.file,
            output::time(value.taken_at),
            value.rows
        )
    });
    out.note("What unlocks the node unlocks the backup: keep that elsewhere.");
    Ok(())
}

/// Makes a node of a backup.
pub async fn restore(out: Output, args: RestoreArgs) -> Outcome {
    let file = File::open(&args.file).map_err(|e| Failure::reading(&args.file, &e))?;
    let options = RestoreOptions {
        data_dir: args.node.data_dir.clone(),
        root_key: root_key(&args.node)?,
        listen: args.listen,
        urls: args.url,
    };
    let restored =
        quorate_server::restore(options, BufReader::new(file)).await.map_err(|e| failed(&e))?;
    #[derive(Serialize)]
    struct Value {
        node: String,
        name: String,
        taken_at: u64,
        with_shares: bool,
        card: String,
        fingerprint: String,
    }
    let value = Value {
        node: restored.entry.id.to_string(),
        name: restored.entry.name.clone(),
        taken_at: restored.taken_at,
        with_shares: restored.with_shares,
        card: shown(&args.node.data_dir.join(quorate_server::CARD_FILE)),
        fingerprint: restored.fingerprint.to_string(),
    };
    out.result(&value, || {
        output::table(&[
            vec!["node".into(), format!("{} ({})", value.name, value.node)],
            vec!["as it was at".into(), output::time(value.taken_at)],
            vec!["card".into(), value.card.clone()],
            vec!["fingerprint".into(), value.fingerprint.clone()],
        ])
    });
    out.note(&format!(
        "It serves nobody yet. Start it; give the card and, by another channel, its fingerprint to the cluster's \
         administrators, who name its new audit log and then have shares dealt to it:\n  {UPDATE}\n  quorate cluster \
         repair {} --all",
        value.name
    ));
    Ok(())
}
