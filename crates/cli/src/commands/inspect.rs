//! `quorate inspect`: a header explained, without keys and without asking anybody.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use data_encoding::BASE64;
use quorate_object::datakey::WrappedDataKey;
use quorate_object::inspect;
use quorate_sdk::ObjectError;
use rustix::fs::OFlags;

use crate::app::App;
use crate::args::Inspect;
use crate::commands::encrypt::is_dash;
use crate::failure::{Code, Failure, Outcome};
use crate::files::jobs;
use crate::output;

/// Opens a file or a pipe and reads the first bytes that are there. Never waits for a pipe to get a writer.
fn begin(path: &Path, start: &mut [u8]) -> Outcome<(File, usize)> {
    let unreadable = |e: std::io::Error| Failure::reading(path, &e);
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let have = match file.read(start) {
        Ok(0) if file.metadata().is_ok_and(|m| m.file_type().is_fifo()) => {
            return Err(Failure::new(
                Code::Input,
                format!("{} is a pipe that nobody writes to", path.display()),
            )
            .next("Start the writer first, or give the object on standard input: `inspect -`."));
        }
        // Somebody has it open for writing, and has written nothing yet.
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => 0,
        read => read.map_err(unreadable)?,
    };
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).map_err(|e| unreadable(e.into()))?;
    Ok((file, have))
}

/// Whether these are the first bytes of a wrapped data key in base64.
fn is_base64_of_data_key(start: &[u8; 8]) -> bool {
    BASE64.decode(start).is_ok_and(|first| quorate_object::datakey::MAGIC.starts_with(&first))
}

/// Runs it.
pub fn run(app: &App, args: &Inspect) -> Outcome {
    let mut start = [0u8; 8];
    let (mut input, mut have): (Box<dyn Read>, usize) = if is_dash(&args.path) {
        (Box::new(std::io::stdin()), 0)
    } else {
        let (file, have) = begin(&args.path, &mut start)?;
        (Box::new(file), have)
    };
    while let Some(rest) = start.get_mut(have..).filter(|r| !r.is_empty()) {
        match input.read(rest).map_err(|e| Failure::reading(&args.path, &e))? {
            0 => break,
            n => have += n,
        }
    }
    let mut begun = start.get(..have).unwrap_or_default().to_vec();
    if is_base64_of_data_key(&start) {
        // As `datakey generate` prints it: one line, of which no more than a wrapped key's bytes can be.
        let mut line = begun;
        let most = quorate_object::datakey::MAX_WRAPPED_BYTES.div_ceil(3) * 4 + 2;
        input
            .take(most as u64)
            .read_to_end(&mut line)
            .map_err(|e| Failure::reading(&args.path, &e))?;
        begun = BASE64.decode(line.trim_ascii()).map_err(|_| {
            let message = "it begins as a wrapped data key in base64, and does not go on as one";
            Failure::new(Code::Input, format!("{}: {message}", args.path.display()))
                .next("Give one wrapped data key, without its plaintext, on one line.")
        })?;
        input = Box::new(std::io::empty());
        start = *quorate_object::datakey::MAGIC;
    }
    if start == *quorate_object::datakey::MAGIC {
        let mut bytes = begun;
        input
            .take(quorate_object::datakey::MAX_WRAPPED_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::reading(&args.path, &e))?;
        let wrapped = WrappedDataKey::parse(&bytes)
            .map_err(|e| quorate_sdk::Error::from(ObjectError::Format(e.to_string())))
            .map_err(|e| Failure::from(e).of(&args.path))?;
        let described = inspect::data_key(&wrapped);
        app.out.result(&described, || {
            format!(
                "wrapped data key\n{}",
                serde_json::to_string_pretty(&described).unwrap_or_default()
            )
        });
        return Ok(());
    }
    let mut whole = std::io::Cursor::new(begun).chain(input);
    let (header, _) = jobs::read_header(&args.path, &mut whole)?;
    let described = inspect::object(&header);
    app.out.result(&described, || {
        let mut rows = vec![
            vec!["object".to_owned(), header.prologue().object().to_string()],
            vec!["payload".to_owned(), header.prologue().suite().name().to_owned()],
            vec![
                "header".to_owned(),
                format!("{} bytes, not authenticated (that takes a key)", header.length()),
            ],
        ];
        for (i, stanza) in header.stanzas().iter().enumerate() {
            let facts = stanza.facts();
            rows.push(vec![
                format!("reader {}", i + 1),
                format!("{} version {}", facts.key, facts.version),
            ]);
            rows.push(vec!["  tenant".to_owned(), facts.tenant.to_string()]);
            rows.push(vec!["  creator".to_owned(), facts.creator.to_string()]);
            rows.push(vec!["  created".to_owned(), output::time(facts.created_at.0)]);
            let context = match stanza.stored_context() {
                None => "not stored: the reader gives the same pairs (none, where there were none)"
                    .to_owned(),
                Some(c) if c.is_empty() => "stored: empty".to_owned(),
                Some(c) => {
                    let pairs: Vec<_> = c.pairs().iter().map(|(k, v)| format!("{k}={v}")).collect();
                    format!("stored: {}", pairs.join(", "))
                }
            };
            rows.push(vec!["  context".to_owned(), context]);
            let fragment =
                stanza.fragment().map_or("none".to_owned(), |id| format!("{id}, needed"));
            rows.push(vec!["  fragment".to_owned(), fragment]);
        }
        output::table(&rows)
    });
    Ok(())
}
