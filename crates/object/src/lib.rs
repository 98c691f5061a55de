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
//! [`datakey`] wraps keys that exist already, and [`inspect`] describes both without any key.
#![forbid(unsafe_code)]

mod bytes;
pub mod cobblestone;
pub mod datakey;
mod expand;
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
