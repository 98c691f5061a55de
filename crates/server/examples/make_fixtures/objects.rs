//! Sealed objects and data keys.

use quorate_sdk::{
    Client, EncryptionContext, FragmentLock, Fragments, Key, Profile, make_fragment_key_file,
};
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};
use std::path::Path;

use crate::files::Output;

pub fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::new(pairs.iter().copied()).unwrap()
}

pub fn pairs(context: &EncryptionContext) -> Value {
    context.pairs().iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect()
}

/// What is asked about an object or a data key.
pub struct Sealed<'a> {
    pub folder: &'a str,
    pub name: &'a str,
    pub plaintext: &'a [u8],
    pub sealed: &'a [u8],
    pub version: u32,
    pub context: &'a EncryptionContext,
    pub stored: bool,
}

pub fn keep(output: &Output, list: &mut Vec<Value>, sealed: &Sealed<'_>) {
    let Sealed { folder, name, .. } = sealed;
    output.write(&format!("{folder}/{name}.quorate"), sealed.sealed);
    output.write(&format!("{folder}/{name}.plain"), sealed.plaintext);
    list.push(json!({
        "name": name,
        "key_version": sealed.version,
        "context": pairs(sealed.context),
        "stored_context": sealed.stored,
    }));
}

/// Objects under the first version of a key; the last is to be rewrapped.
pub async fn first_objects(client: &Client, key: &Key, out: &Output) -> Vec<Value> {
    let long: Vec<u8> = (0..33_000_u32).map(|i| (i % 251) as u8).collect();
    let (none, customer) = (context(&[]), context(&[("customer", "4711")]));
    let cafe = context(&[("café", "Zürich"), ("path", "a/b")]);
    let mut list = Vec::new();
    let cases: [(&str, &[u8], &EncryptionContext, bool); 4] = [
        ("empty", b"", &none, false),
        ("small", b"forty thousand francs", &customer, false),
        ("stored-context", b"says its context", &cafe, true),
        ("chunks", &long, &cafe, false),
    ];
    for (name, plaintext, context, stored) in cases {
        let client = if stored { client.storing_contexts() } else { client.clone() };
        let sealed = client.encrypt(key, plaintext, context).await.unwrap();
        let sealed = &sealed;
        let folder = "objects";
        keep(
            out,
            &mut list,
            &Sealed { folder, name, plaintext, sealed, version: 1, context, stored },
        );
    }
    list
}

pub async fn data_keys(client: &Client, key: &Key, out: &Output) -> Vec<Value> {
    let (none, customer) = (context(&[]), context(&[("customer", "4711")]));
    let long: Vec<u8> = (0..64).collect();
    let mut list = Vec::new();
    let cases: [(&str, &[u8], &EncryptionContext); 2] =
        [("wrapped-16", &long[..16], &none), ("wrapped-64", &long, &customer)];
    for (name, plaintext, context) in cases {
        let contexts = core::slice::from_ref(context);
        let wrapped = client.wrap_data_keys(key, &[plaintext], contexts).await.unwrap();
        let (folder, sealed) = ("data-keys", wrapped[0].as_slice());
        let stored = false;
        keep(
            out,
            &mut list,
            &Sealed { folder, name, plaintext, sealed, version: 2, context, stored },
        );
    }
    let made = client.generate_data_keys(key, 1, core::slice::from_ref(&customer)).await.unwrap();
    let generated = Sealed {
        folder: "data-keys",
        name: "generated",
        plaintext: made[0].key.reveal(),
        sealed: &made[0].wrapped,
        version: 2,
        context: &customer,
        stored: false,
    };
    keep(out, &mut list, &generated);
    list
}

/// A fragment in the founder's profile, its shares, and an object that is bound to it.
pub async fn with_fragment(
    client: &Client,
    key: &Key,
    out: &Output,
    rng: &mut ChaCha20Rng,
) -> Value {
    let key_file = Path::new("fragment.key");
    make_fragment_key_file(key_file).unwrap();
    let lock = FragmentLock::KeyFile(key_file.to_owned());
    let store = Profile::open("profiles/founder").unwrap().fragments();
    let id = store.create(&lock).unwrap();
    let fragment = store.unlock(id, &lock).unwrap();
    for (share, number) in
        quorate_object::fragment::split(&fragment, 2, 3, rng).unwrap().iter().zip(1..)
    {
        out.write(&format!("fragment/share-{number}.txt"), share.lines().as_bytes());
    }
    let sealing = client.with_fragments(Fragments::in_profile(store, Some(lock)).sealing_with(id));
    let (plaintext, customer) = (b"bound to a fragment", context(&[("customer", "4711")]));
    let sealed = sealing.encrypt(key, plaintext, &customer).await.unwrap();
    out.write("fragment/fragment.key", std::fs::read(key_file).unwrap());
    out.write("fragment/object.quorate", sealed);
    out.write("fragment/object.plain", plaintext);
    let version = key.versions().last().unwrap().number.get();
    json!({ "id": id.to_string(), "key_version": version, "context": pairs(&customer) })
}
