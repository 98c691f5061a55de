//! The files that the demonstration makes, and the comparison of what came back.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rand_core::{Rng, SeedableRng};

use crate::failure::{Code, Failure, Outcome};
use crate::files::walk;

/// Sizes of the sample, in bytes, and how many files of each: 0 B to 64 MiB, 415 files, 290 MiB.
const SIZES: &[(u64, usize)] = &[
    (0, 5),
    (1, 5),
    (200, 100),
    (4 * 1024, 100),
    (16 * 1024, 50),
    (16 * 1024 + 1, 10),
    (100 * 1024, 100),
    (1024 * 1024, 40),
    (16 * 1024 * 1024, 4),
    (64 * 1024 * 1024, 1),
    (64 * 1024 * 1024 - 1, 1),
];

/// Makes the sample: a few hundred files in folders, with an empty folder and a link.
pub fn make(root: &Path) -> Outcome {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut block = vec![0u8; 1 << 20];
    rng.fill_bytes(&mut block);
    let mut number = 0usize;
    for (size, count) in SIZES {
        for _ in 0..*count {
            let folder = root.join(format!("folder-{}", number % 7));
            fs::create_dir_all(&folder).map_err(|e| Failure::writing(&folder, &e))?;
            let path = folder.join(format!("file-{number:03}.bin"));
            write(&path, *size, number as u64, &mut block)
                .map_err(|e| Failure::writing(&path, &e))?;
            number += 1;
        }
    }
    let empty = root.join("empty-folder");
    fs::create_dir_all(&empty).map_err(|e| Failure::writing(&empty, &e))?;
    let link = root.join("link");
    std::os::unix::fs::symlink("folder-0/file-000.bin", &link)
        .map_err(|e| Failure::writing(&link, &e))
}

/// Files differ from one another without costing a generator's time for every byte.
fn write(path: &Path, size: u64, number: u64, block: &mut [u8]) -> std::io::Result<()> {
    for (byte, tag) in block.iter_mut().zip(number.to_le_bytes()) {
        *byte ^= tag.wrapping_mul(31).wrapping_add(1);
    }
    let mut file = BufWriter::new(File::create(path)?);
    let mut left = size;
    while left > 0 {
        let take = left.min(block.len() as u64) as usize;
        file.write_all(block.get(..take).unwrap_or_default())?;
        left -= take as u64;
    }
    file.flush()
}

/// What comparing two trees found.
#[derive(Debug, Default, Clone, Copy)]
pub struct Compared {
    /// Files with the same bytes.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Compares two trees byte for byte: folders, files with their modes and times, links.
pub fn compare(original: &Path, restored: &Path) -> Outcome<Compared> {
    if original.is_file() {
        let bytes = same(original, restored)?;
        return Ok(Compared { files: 1, bytes });
    }
    let (a, b) = (walk::read(original, None)?, walk::read(restored, None)?);
    let names = |t: &walk::Tree| t.files.iter().map(|f| f.relative.clone()).collect::<Vec<_>>();
    let links = |t: &walk::Tree| {
        t.links.iter().map(|l| (l.relative.clone(), l.target.clone())).collect::<Vec<_>>()
    };
    if a.folders != b.folders || names(&a) != names(&b) || links(&a) != links(&b) {
        return Err(differs(original, restored, "the trees have different entries"));
    }
    let mut compared = Compared::default();
    for (x, y) in a.files.iter().zip(&b.files) {
        compared.bytes += same(&x.path, &y.path)?;
        compared.files += 1;
    }
    Ok(compared)
}

fn same(original: &Path, restored: &Path) -> Outcome<u64> {
    let open = |p: &Path| File::open(p).map_err(|e| Failure::reading(p, &e));
    let (x, y) = (open(original)?, open(restored)?);
    let stat = |f: &File, p: &Path| f.metadata().map_err(|e| Failure::reading(p, &e));
    let (m, n) = (stat(&x, original)?, stat(&y, restored)?);
    if m.len() != n.len() {
        return Err(differs(original, restored, "the lengths differ"));
    }
    if m.mode() != n.mode() || m.mtime() != n.mtime() {
        return Err(differs(original, restored, "the modes or times differ"));
    }
    let (mut x, mut y) = (x, y);
    let (mut p, mut q) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    let mut left = m.len();
    while left > 0 {
        let take = left.min(p.len() as u64) as usize;
        let (Some(p), Some(q)) = (p.get_mut(..take), q.get_mut(..take)) else { break };
        x.read_exact(p).map_err(|e| Failure::reading(original, &e))?;
        y.read_exact(q).map_err(|e| Failure::reading(restored, &e))?;
        if p != q {
            return Err(differs(original, restored, "the bytes differ"));
        }
        left -= take as u64;
    }
    Ok(m.len())
}

fn differs(original: &Path, restored: &Path, how: &str) -> Failure {
    Failure::new(
        Code::DemoFailed,
        format!("{} and {}: {how}", original.display(), restored.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, vec![7; 300_000]).unwrap();
        fs::copy(&a, &b).unwrap();
        let time = fs::metadata(&a).unwrap().modified().unwrap();
        let touch = |p: &Path| File::options().write(true).open(p).unwrap().set_modified(time);
        touch(&b).unwrap();
        assert_eq!(compare(&a, &b).unwrap().bytes, 300_000);
        let mut bytes = fs::read(&b).unwrap();
        bytes[299_999] ^= 1;
        fs::write(&b, bytes).unwrap();
        touch(&b).unwrap();
        assert_eq!(compare(&a, &b).unwrap_err().code, "demo_failed");
    }
}
