//! `quorate fragment`: secrets that never leave the customer.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use quorate_object::fragment::{self, MAX_SHARES, MIN_THRESHOLD, Share};
use quorate_sdk::{
    Client, FragmentId, FragmentLock, FragmentStore, Fragments, StoredFragment,
    make_fragment_key_file,
};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::app::{App, shown};
use crate::args::{Fragment as Command, FragmentArgs};
use crate::commands::encrypt::is_dash;
use crate::failure::{Code, Failure, Outcome};
use crate::files::{self, atomic};
use crate::output;

/// Bytes of a file with shares at most: 16 shares on paper have less than 20 KiB.
const MAX_SHARES_BYTES: u64 = 256 << 10;

/// What unlocks fragments, by what was given.
fn lock(args: &FragmentArgs) -> Outcome<Option<FragmentLock>> {
    if let Some(path) = &args.fragment_key_file {
        return Ok(Some(FragmentLock::KeyFile(path.clone())));
    }
    let Some(path) = &args.fragment_passphrase_file else { return Ok(None) };
    Ok(Some(FragmentLock::Passphrase(files::passphrase(path)?)))
}

/// What is to unlock a fragment from now on. A key file that is not there is made.
fn new_lock(args: &FragmentArgs) -> Outcome<FragmentLock> {
    if let Some(path) = &args.fragment_key_file {
        make_fragment_key_file(path)?;
    }
    lock(args)?.ok_or_else(|| {
        Failure::new(Code::Usage, "nothing says what is to unlock the fragment").next(
            "Give --fragment-passphrase-file, or --fragment-key-file (made if it is not there).",
        )
    })
}

/// The fragment of a check value, or of the beginning of one.
fn choose(store: &FragmentStore, named: Option<&str>) -> Outcome<FragmentId> {
    if let Some(id) = named.and_then(|text| text.parse().ok()) {
        return Ok(id);
    }
    let all = store.list()?;
    let fits = |stored: &&StoredFragment| {
        let id = stored.id.to_string();
        named.is_none_or(|text| id.starts_with(text) || id["fragment-".len()..].starts_with(text))
    };
    let found: Vec<&StoredFragment> = all.iter().filter(fits).collect();
    match (found.as_slice(), named) {
        ([only], _) => Ok(only.id),
        ([], None) => Err(Failure::new(Code::Usage, "this profile has no customer fragment")
            .next("Make one with `quorate fragment create`.")),
        ([], Some(text)) => Err(Failure::new(
            Code::Usage,
            format!("no customer fragment here begins with \"{}\"", text.escape_debug()),
        )
        .next("`quorate fragment list` shows those that are here.")),
        (several, _) => {
            let names: Vec<String> = several.iter().map(|stored| stored.id.to_string()).collect();
            Err(Failure::new(Code::Usage, format!("which one: {}?", names.join(", ")))
                .next("Name one by the beginning of its check value."))
        }
    }
}

/// A client that has the profile's fragments at hand; each is unlocked when something needs it.
pub fn client(app: &App, args: &FragmentArgs, sealing: Option<&str>) -> Outcome<Client> {
    let client = app.client()?;
    let store = app.profile()?.fragments();
    let sealing = sealing.map(|text| choose(&store, Some(text))).transpose()?;
    let fragments = Fragments::in_profile(store, lock(args)?);
    Ok(client.with_fragments(match sealing {
        Some(id) => fragments.sealing_with(id),
        None => fragments,
    }))
}

/// A fragment, as it is shown: nothing of it is secret.
#[derive(Debug, Serialize)]
struct Shown {
    fragment: String,
    stored: String,
    unlocked_by: Vec<&'static str>,
    file: String,
}

fn shown_of(store: &FragmentStore, stored: &StoredFragment) -> Shown {
    Shown {
        fragment: stored.id.to_string(),
        stored: output::time(stored.stored_at.0),
        unlocked_by: stored.unlocked_by.clone(),
        file: shown(&store.path(stored.id)),
    }
}

fn print(app: &App, store: &FragmentStore, id: FragmentId) -> Outcome {
    let all = store.list()?;
    let stored = all.iter().find(|stored| stored.id == id).ok_or_else(|| {
        Failure::from(quorate_sdk::Error::from(quorate_sdk::FragmentError::Missing {
            fragment: id,
        }))
    })?;
    let value = shown_of(store, stored);
    app.out.result(&value, || {
        output::table(&[
            vec!["fragment".into(), value.fragment.clone()],
            vec!["stored".into(), value.stored.clone()],
            vec!["unlocked by".into(), value.unlocked_by.join(", ")],
            vec!["file".into(), value.file.clone()],
        ])
    });
    Ok(())
}

/// Runs it.
pub fn run(app: &App, command: Command) -> Outcome {
    let store = app.profile()?.fragments();
    match command {
        Command::Create { lock: args } => {
            let lock = new_lock(&args)?;
            let id = store.create(&lock)?;
            print(app, &store, id)?;
            app.out.note(
                "Objects that are bound to this fragment are lost without it. Back it up now: \
                 quorate fragment backup --threshold 2 --shares 3 --output DIR",
            );
            Ok(())
        }
        Command::Remove { fragment, backed_up: _ } => {
            let id = choose(&store, Some(&fragment))?;
            store.remove(id)?;
            #[derive(Serialize)]
            struct Removed {
                removed: String,
            }
            let value = Removed { removed: id.to_string() };
            app.out.result(&value, || format!("removed {}", value.removed));
            app.out.note(
                "What is bound to it opens here again once it is restored: quorate fragment restore",
            );
            Ok(())
        }
        Command::List => {
            let all: Vec<Shown> =
                store.list()?.iter().map(|stored| shown_of(&store, stored)).collect();
            app.out.result(&all, || {
                let mut rows =
                    vec![["FRAGMENT", "STORED", "UNLOCKED BY"].map(str::to_owned).to_vec()];
                rows.extend(all.iter().map(|one| {
                    vec![one.fragment.clone(), one.stored.clone(), one.unlocked_by.join(", ")]
                }));
                output::table(&rows)
            });
            Ok(())
        }
        Command::Show { fragment } => print(app, &store, choose(&store, fragment.as_deref())?),
        Command::Backup { fragment, threshold, shares, output, paper, lock: args } => {
            let id = choose(&store, fragment.as_deref())?;
            backup(
                app,
                &store,
                id,
                (threshold, shares),
                output.as_deref().filter(|_| !paper),
                &args,
            )
        }
        Command::Restore { shares, lock: args } => {
            let lock = new_lock(&args)?;
            restore(app, &store, &shares, &lock)
        }
    }
}

fn share_failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::FragmentShares, error.to_string())
}

/// Splits a fragment, into files or onto standard output for a printer.
fn backup(
    app: &App,
    store: &FragmentStore,
    id: FragmentId,
    (threshold, count): (u8, u8),
    folder: Option<&Path>,
    args: &FragmentArgs,
) -> Outcome {
    if threshold < MIN_THRESHOLD || threshold > count || count > MAX_SHARES {
        return Err(Failure::new(
            Code::Usage,
            format!("--shares is from 2 to {MAX_SHARES}, and --threshold from 2 to --shares"),
        )
        .next("For a plain copy, copy the sealed file that `quorate fragment show` names."));
    }
    let lock = lock(args)?.ok_or_else(|| {
        let locked = quorate_sdk::FragmentError::Locked { fragment: id };
        Failure::from(quorate_sdk::Error::from(locked))
    })?;
    let fragment = store.unlock(id, &lock)?;
    let mut rng = rng()?;
    let shares = fragment::split(&fragment, threshold, count, &mut rng).map_err(share_failure)?;
    let Some(folder) = folder else {
        return print_paper(&shares);
    };
    std::fs::create_dir_all(folder).map_err(|e| Failure::writing(folder, &e))?;
    let mut files = Vec::new();
    let write =
        |path: &PathBuf, share: &Share| atomic::write_private(path, paper(share).as_bytes(), false);
    let hex = data_encoding::HEXLOWER.encode(id.as_bytes());
    for share in &shares {
        let name = format!("fragment-{}-share-{}-of-{count}.txt", &hex[..8], share.index());
        let path = folder.join(name);
        if let Err(failure) = write(&path, share) {
            // Half a backup is none.
            for path in &files {
                let _ = std::fs::remove_file(path);
            }
            return Err(failure);
        }
        files.push(path);
    }
    #[derive(Serialize)]
    struct Made {
        fragment: String,
        backup: String,
        threshold: u8,
        shares: Vec<String>,
    }
    let value = Made {
        fragment: id.to_string(),
        backup: shares.first().map(|s| s.backup().to_string()).unwrap_or_default(),
        threshold,
        shares: files.iter().map(|path| shown(path)).collect(),
    };
    app.out.result(&value, || {
        format!(
            "{count} shares of {id}, any {threshold} of which restore it:\n  {}",
            value.shares.join("\n  ")
        )
    });
    app.out.note(
        "Give each to somebody else, delete them here, and try one restore before you rely on it.",
    );
    Ok(())
}

fn rng() -> Outcome<rand_chacha::ChaCha20Rng> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *seed)
        .map_err(|e| Failure::new(Code::Internal, format!("no randomness: {e}")))?;
    Ok(rand_core::SeedableRng::from_seed(*seed))
}

/// One share as a page.
fn paper(share: &Share) -> Zeroizing<String> {
    let (index, count, threshold) = (share.index(), share.count(), share.threshold());
    Zeroizing::new(format!(
        "Quorate customer fragment, share {index} of {count}\n\n\
         Any {threshold} of the {count} shares restore the fragment; fewer say nothing about it.\n\
         Keep each with somebody else, and none beside the data.\n\n\
         {}\nbackup {}\n\n{}\n\
         Only the numbered lines are read. To restore, type those of {threshold} shares into a file\n\
         (upper or lower case; there is no letter I, L, O or U) and run\n\
         \x20   quorate fragment restore FILE\n",
        share.fragment(),
        share.backup(),
        &*share.lines(),
    ))
}

/// All shares, a page each.
fn print_paper(shares: &[Share]) -> Outcome {
    let mut out = std::io::stdout().lock();
    let mut write = || {
        for (at, share) in shares.iter().enumerate() {
            if at > 0 {
                out.write_all(b"\x0c")?;
            }
            out.write_all(paper(share).as_bytes())?;
        }
        out.flush()
    };
    write().map_err(|e| Failure::writing(Path::new("standard output"), &e))
}

/// Puts a fragment together from shares, and keeps it.
fn restore(app: &App, store: &FragmentStore, paths: &[PathBuf], lock: &FragmentLock) -> Outcome {
    let mut good = Vec::new();
    let mut damaged = Vec::new();
    for path in paths {
        let name = if is_dash(path) { "standard input".to_owned() } else { shown(path) };
        let text = text_of(path)?;
        let read = Share::read_all(&text);
        if read.is_empty() {
            damaged.push(format!("{name}: no share in it"));
        }
        for share in read {
            match share {
                Ok(share) => good.push(share),
                Err(error) => damaged.push(format!("{name}: {error}")),
            }
        }
    }
    let restored = match fragment::restore(&good) {
        Ok(restored) => restored,
        // What cannot be read is what is missing.
        Err(error) if damaged.is_empty() => return Err(share_failure(error)),
        Err(fragment::RestoreError::None) => return Err(share_failure(damaged.join("; "))),
        Err(error) => return Err(share_failure(format!("{error}; {}", damaged.join("; ")))),
    };
    for share in &damaged {
        app.out.warn(&format!("not used: {share}"));
    }
    for index in &restored.forged {
        app.out.warn(&format!("share {index} is not of this fragment: somebody wrote it so"));
    }
    let id = store.keep(&restored.fragment, lock)?;
    print(app, store, id)
}

fn text_of(path: &Path) -> Outcome<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 << 10));
    let read = if is_dash(path) {
        std::io::stdin().lock().take(MAX_SHARES_BYTES).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path)
            .map_err(|e| Failure::reading(path, &e))?
            .take(MAX_SHARES_BYTES)
            .read_to_end(&mut bytes)
    };
    read.map_err(|e| Failure::reading(path, &e))?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}
