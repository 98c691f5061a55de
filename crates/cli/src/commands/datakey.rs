//! `quorate datakey`: an application's own data keys, many in one round trip.

use std::io::{BufRead, Write};

use data_encoding::BASE64;
use quorate_secret::SecretVec;
use serde::Serialize;

use crate::app::{App, context};
use crate::args::Datakey;
use crate::commands::fragment;
use crate::failure::{Code, Failure, Outcome};

/// How many data keys one call takes: as many labels as one request.
const MAX: usize = quorate_types::limits::MAX_BATCH;

#[derive(Serialize)]
struct Made {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<String>,
    wrapped: String,
}

/// Runs it.
pub async fn run(app: &App, command: Datakey) -> Outcome {
    match command {
        Datakey::Generate { count, key, context: args, fragment, without_plaintext } => {
            if count == 0 || count > MAX {
                return Err(Failure::new(Code::Usage, format!("--count is from 1 to {MAX}")));
            }
            let context = context(&args)?;
            let client = fragment::client(app, &fragment.unlock, fragment.fragment.as_deref())?;
            let key = app.key(&client, key.as_deref()).await?;
            let made = client.generate_data_keys(&key, count, &[context]).await?;
            let lines: Vec<Made> = made
                .iter()
                .map(|m| Made {
                    // The caller asked for the key: this is where it leaves.
                    plaintext: (!without_plaintext).then(|| BASE64.encode(m.key.reveal())),
                    wrapped: BASE64.encode(&m.wrapped),
                })
                .collect();
            app.out.result(&lines, || {
                let line = |m: &Made| match &m.plaintext {
                    Some(plaintext) => format!("{plaintext} {}", m.wrapped),
                    None => m.wrapped.clone(),
                };
                lines.iter().map(line).collect::<Vec<_>>().join("\n")
            });
            app.warnings(&client);
        }
        Datakey::Wrap { key, context: args, fragment } => {
            let context = context(&args)?;
            let keys: Vec<SecretVec> =
                lines()?.into_iter().map(|line| SecretVec::new(line.bytes)).collect();
            let client = fragment::client(app, &fragment.unlock, fragment.fragment.as_deref())?;
            let key = app.key(&client, key.as_deref()).await?;
            let plain: Vec<&[u8]> = keys.iter().map(SecretVec::reveal).collect();
            let wrapped = client.wrap_data_keys(&key, &plain, &[context]).await?;
            let lines: Vec<String> = wrapped.iter().map(|w| BASE64.encode(w)).collect();
            app.out.result(&lines, || lines.join("\n"));
            app.warnings(&client);
        }
        Datakey::Unwrap { context: args, fragment } => {
            let context = context(&args)?;
            let wrapped = lines()?;
            let client = fragment::client(app, &fragment, None)?;
            let borrowed: Vec<&[u8]> = wrapped.iter().map(|line| line.bytes.as_slice()).collect();
            let opened = client.unwrap_data_keys(&borrowed, &[context]).await;
            let keys = all_or_nothing(&wrapped, opened)?;
            let lines: Vec<String> = keys.iter().map(|key| BASE64.encode(key.reveal())).collect();
            app.out.result(&lines, || lines.join("\n"));
            app.warnings(&client);
        }
        Datakey::Rewrap { context: args, fragment } => {
            let context = context(&args)?;
            let wrapped = lines()?;
            let client = fragment::client(app, &fragment.unlock, fragment.fragment.as_deref())?;
            let borrowed: Vec<&[u8]> = wrapped.iter().map(|line| line.bytes.as_slice()).collect();
            let renewed = client.rewrap_data_keys(&borrowed, &[context]).await;
            let lines: Vec<String> = all_or_nothing(&wrapped, renewed)?
                .iter()
                .map(|wrapped| BASE64.encode(wrapped))
                .collect();
            app.out.result(&lines, || lines.join("\n"));
            app.warnings(&client);
        }
    }
    std::io::stdout().flush().map_err(|e| Failure::new(Code::Output, crate::failure::plain(&e)))
}

/// All results, or the first failure with its line: a script that pastes lines side by side must not get
/// them shifted.
fn all_or_nothing<T>(
    lines: &[Line],
    results: Vec<Result<T, quorate_sdk::Error>>,
) -> Outcome<Vec<T>> {
    let numbered = results.into_iter().zip(lines).map(|(result, line)| {
        result.map_err(|e| {
            let mut failure = Failure::from(e);
            failure.message = format!("line {}: {}", line.number, failure.message);
            failure
        })
    });
    numbered.collect()
}

/// A line of standard input.
struct Line {
    /// As an editor counts it, empty ones too.
    number: usize,
    bytes: Vec<u8>,
}

/// Base64, one a line, from standard input. Empty lines are passed over.
fn lines() -> Outcome<Vec<Line>> {
    let mut all = Vec::new();
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|e| {
            Failure::new(Code::Input, format!("standard input: {}", crate::failure::plain(&e)))
        })?;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if all.len() == MAX {
            return Err(Failure::new(Code::Usage, format!("more than {MAX} lines")));
        }
        let bytes = BASE64.decode(line.as_bytes()).map_err(|_| {
            Failure::new(Code::Usage, format!("line {} of standard input is not base64", i + 1))
        })?;
        all.push(Line { number: i + 1, bytes });
    }
    if all.is_empty() {
        return Err(Failure::new(Code::Usage, "standard input holds no line"));
    }
    Ok(all)
}
