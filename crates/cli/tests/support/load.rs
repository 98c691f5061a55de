//! A client that seals and opens without pause, in one process for as long as it is let: it meets nodes that are stopped,
//! upgraded and put back while it knows them.

use std::path::Path;

use quorate_sdk::{Client, EncryptionContext, Profile};

/// What came of it.
#[derive(Debug, Default)]
pub struct Load {
    /// Objects that were sealed and opened again.
    pub rounds: u64,
    /// What failed, the first few.
    pub failures: Vec<String>,
}

/// Seals and opens under the key `docs` until `over` says so, which hears how many rounds there were.
pub fn run(profile: &Path, mut over: impl FnMut(u64) -> bool) -> Load {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Load { rounds: 0, failures: vec![error.to_string()] },
    };
    let mut load = Load::default();
    runtime.block_on(async {
        let context = EncryptionContext::default();
        let client = match Profile::open(profile).and_then(|profile| Client::open(&profile)) {
            Ok(client) => client,
            Err(error) => return load.failures.push(error.to_string()),
        };
        while !over(load.rounds) && load.failures.len() < 10 {
            let plain = format!("object {}", load.rounds);
            let round = async {
                let key = client.key("docs").await?;
                let sealed = client.encrypt(&key, plain.as_bytes(), &context).await?;
                client.decrypt(&sealed, &context).await
            };
            match round.await {
                Ok(opened) if opened == plain.as_bytes() => load.rounds += 1,
                Ok(_) => load.failures.push(format!("{plain} opened as something else")),
                Err(error) => load.failures.push(format!("{plain}: {error}")),
            }
        }
    });
    load
}
