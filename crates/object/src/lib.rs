//! The sealed object format: `spec/sealed-object.md`.
//!
//! No IO: no sockets, files, clock or operating-system randomness; randomness is an argument.
//!
//! A sealed object is a [`header`] and a payload. The header wraps one data key for each of its
//! readers; the payload is C2SP chunked encryption ([`cobblestone`]) under that data key. Writing:
//!
//! 1. [`Draft::new`] draws an object id and a data key;
//! 2. a [`StanzaPlan`] for each reader gives the [`quorate_wire::Label`] to ask the nodes about;
//! 3. [`Draft::add_reader`] takes the PRF output for that label;
//! 4. [`Draft::finish`] gives the header, and the [`Encryptor`] of its one payload.
//!
//! Reading:
//!
//! 1. [`ParsedHeader::parse`] reads bytes that nobody vouches for yet;
//! 2. [`Stanza::label`] says what to ask the nodes about, [`Stanza::kek`] takes their answer;
//! 3. [`ParsedHeader::open_stanza`] gives the data key, [`ParsedHeader::authenticate`] checks the
//!    whole header with it;
//! 4. only the resulting [`AuthenticatedHeader`] gives a [`Decryptor`], which checks the payload's
//!    commitment first and releases only chunks that it verified.
//!
//! ```
//! use quorate_object::cobblestone::StreamDecryptor;
//! use quorate_object::{
//!     ContextStorage, Draft, Encryptor, ParsedHeader, PayloadSuite, StanzaFacts, StanzaPlan,
//! };
//! # use quorate_types::{KeyId, KeySpec, KeyVersion, PrincipalId, TenantId, UnixSeconds};
//! # use rand_chacha::rand_core::SeedableRng;
//! # let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! # let nodes_answer = |_: &quorate_wire::Label| {
//! #     quorate_secret::PrfOutput::new(quorate_secret::Secret::from_fn(|b| b.fill(1)))
//! # };
//! # let facts = StanzaFacts {
//! #     spec: KeySpec::PrfRistretto255Sha512,
//! #     tenant: TenantId::from_bytes([1; 32]),
//! #     key: KeyId::from_bytes([2; 32]),
//! #     version: KeyVersion::FIRST,
//! #     creator: PrincipalId::from_bytes([3; 32]),
//! #     created_at: UnixSeconds(1_800_000_000),
//! # };
//! let context = quorate_wire::EncryptionContext::new([("invoice", "4711")])?;
//!
//! let mut draft = Draft::new(PayloadSuite::Cobblestone256, &mut rng);
//! let plan = StanzaPlan::new(facts, &context, ContextStorage::NotStored, None, &mut rng);
//! let prf = nodes_answer(plan.label());
//! draft.add_reader(plan, &prf, None)?;
//! let new = draft.finish(&mut rng)?;
//! let message = b"40,000 francs";
//! let mut chunks = vec![0; Encryptor::finish_len(message.len())];
//! new.encryptor.finish(message, &mut chunks)?;
//! let file = [new.header.bytes(), &new.prefix, &chunks].concat();
//!
//! let header = ParsedHeader::parse(&file)?;
//! let (_, payload) = file.split_at(header.length());
//! let stanza = header.stanzas().first().ok_or("a header has a stanza")?;
//! let label = stanza.label(Some(&context))?;
//! let kek = stanza.kek(&label, &nodes_answer(&label), None)?;
//! let data_key = header.open_stanza(0, &kek)?;
//! let header = header.authenticate(data_key)?;
//! let (prefix, chunks) = payload.split_first_chunk().ok_or("truncated")?;
//! let stream = header.decryptor(prefix)?.stream();
//! let mut opened = vec![0; StreamDecryptor::finish_len(chunks.len()).ok_or("truncated")?];
//! stream.finish(chunks, &mut opened)?;
//! assert_eq!(opened, message);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! [`datakey`] wraps keys that exist already, [`fragment`] backs up a customer's fragment, and [`inspect`]
//! describes objects and wrapped keys without any key.
#![forbid(unsafe_code)]

mod bytes;
pub mod cobblestone;
pub mod datakey;
mod expand;
pub mod fragment;
pub mod header;
pub mod inspect;
pub mod kek;
mod stanza;

pub use cobblestone::{Decryptor, Encryptor};
pub use datakey::WrappedDataKey;
pub use header::{AuthenticatedHeader, Draft, NewObject, ParsedHeader, PayloadSuite, Prologue};
pub use stanza::{
    ContextStorage, LabelError, OpenStanzaError, RewrapError, Stanza, StanzaFacts,
    StanzaFormatError, StanzaPlan,
};
