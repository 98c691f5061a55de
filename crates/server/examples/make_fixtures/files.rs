//! The files of a set.

use std::path::{Path, PathBuf};

use prost::Message;
use quorate_wire::strict;
use serde::Serialize;

/// Where they are written as they are made.
pub struct Output(pub PathBuf);

impl Output {
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(!path.exists(), "{name} is made twice");
        std::fs::write(path, bytes).unwrap();
    }

    pub fn copy(&self, name: &str) {
        self.write(name, std::fs::read(name).unwrap());
    }

    pub fn copy_all(&self, directory: &str) {
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            let name = path.to_str().unwrap();
            if path.is_dir() { self.copy_all(name) } else { self.copy(name) }
        }
    }

    /// A message both ways that the protocol takes it.
    pub fn message<M: Message + Serialize>(&self, name: &str, message: &M) {
        self.write(&format!("{name}.bin"), strict::encode(message));
        self.write(&format!("{name}.json"), serde_json::to_vec_pretty(message).unwrap());
    }
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::write(to, std::fs::read(path).unwrap()).unwrap();
        }
    }
}
