//! `encrypt`, `decrypt`, `rewrap` and `inspect` on files, folders and streams, through real nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use support::{Cluster, Place, noise, run, run_with_files};

/// A time long ago that no test makes by accident.
fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_007)
}

fn set_time(path: &Path, time: SystemTime) {
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_file_is_sealed_beside_itself_and_comes_back_with_mode_and_time() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let bytes = noise(1, 300_000);
    let original = place.file("a.pdf", &bytes);
    fs::set_permissions(&original, fs::Permissions::from_mode(0o640)).unwrap();
    set_time(&original, long_ago());

    let sealed = cluster.at(&place, ["encrypt", "a.pdf"]).json();
    assert_eq!((&sealed["files"], &sealed["bytes"]), (&1.into(), &300_000.into()));
    assert_eq!(sealed["outputs"][0], "a.pdf.quorate");
    assert_eq!(fs::read(&original).unwrap(), bytes);
    assert_eq!(place.names(), ["a.pdf", "a.pdf.quorate"]);

    cluster.at(&place, ["decrypt", "a.pdf.quorate", "--output", "b.pdf"]).ok();
    for name in ["a.pdf.quorate", "b.pdf"] {
        let metadata = fs::metadata(place.at(name)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o640, "{name}");
        assert_eq!(metadata.modified().unwrap(), long_ago(), "{name}");
    }
    assert_eq!(fs::read(place.at("b.pdf")).unwrap(), bytes);
    // Without --output it goes where it came from.
    fs::remove_file(&original).unwrap();
    cluster.at(&place, ["decrypt", "a.pdf.quorate"]).ok();
    assert_eq!(fs::read(&original).unwrap(), bytes);
}

#[test]
fn sizes_around_chunks_come_back_and_equal_files_seal_differently() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let sizes = [0, 1, 16_383, 16_384, 16_385, 32_768, 1 << 20, (1 << 20) + 1];
    let names: Vec<String> = sizes.iter().map(|s| format!("{s}.bin")).collect();
    for (name, size) in names.iter().zip(sizes) {
        place.file(name, noise(2, size));
    }
    place.file("twin.bin", noise(2, 16_384));
    let mut seal = vec!["encrypt".to_owned(), "twin.bin".to_owned()];
    seal.extend(names.clone());
    cluster.at(&place, seal).ok();
    assert_ne!(
        fs::read(place.at("twin.bin.quorate")).unwrap(),
        fs::read(place.at("16384.bin.quorate")).unwrap()
    );
    for (name, size) in names.iter().zip(sizes) {
        fs::remove_file(place.at(name)).unwrap();
        cluster.at(&place, ["decrypt", &format!("{name}.quorate")]).ok();
        assert_eq!(fs::read(place.at(name)).unwrap(), noise(2, size), "{name}");
    }
}

#[test]
fn a_folder_comes_back_with_everything_that_help_promises() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let odd = OsStr::from_bytes(b"odd \xff\xfe name");
    place.file("tree/sub/one", b"one");
    place.file("tree/sub/empty-file", b"");
    place.file(Path::new("tree").join(odd), b"a name that is not UTF-8");
    let tree = place.at("tree");
    fs::hard_link(tree.join("sub/one"), tree.join("sub/two")).unwrap();
    fs::create_dir_all(tree.join("empty/inner")).unwrap();
    symlink("sub/one", tree.join("link")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();
    symlink("..", tree.join("sub/up")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(tree.join("pipe")).status().unwrap();
    assert!(fifo.success());
    fs::set_permissions(tree.join("sub/one"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o710)).unwrap();
    for name in ["sub/one", "empty/inner", "empty", "sub", ""] {
        set_time(&tree.join(name), long_ago());
    }

    let sealed = cluster.at(&place, ["encrypt", "tree"]);
    let summary = sealed.json();
    assert_eq!(summary["files"], 4);
    let skipped = summary["skipped"].as_array().unwrap();
    let why = |name: &str| {
        skipped.iter().find(|s| s["path"] == format!("tree/{name}")).unwrap()["why"].clone()
    };
    assert_eq!(
        (skipped.len(), why("socket"), why("pipe")),
        (2, "a socket".into(), "a pipe".into())
    );
    sealed.names("tree/socket").names("tree/pipe");

    // The original is as it was, and each name of a hard link is sealed by itself.
    assert_eq!(fs::metadata(tree.join("sub/one")).unwrap().nlink(), 2);
    assert_ne!(
        fs::read(place.at("tree.quorate/sub/one.quorate")).unwrap(),
        fs::read(place.at("tree.quorate/sub/two.quorate")).unwrap()
    );
    cluster.at(&place, ["decrypt", "tree.quorate", "--output", "back"]).ok();
    let back = place.at("back");
    assert_eq!(fs::read(back.join(odd)).unwrap(), b"a name that is not UTF-8");
    assert_eq!(fs::read(back.join("sub/two")).unwrap(), b"one");
    assert_eq!(fs::read(back.join("sub/empty-file")).unwrap(), b"");
    assert!(back.join("empty/inner").is_dir());
    for (link, target) in [("link", "sub/one"), ("dangling", "nowhere"), ("sub/up", "..")] {
        assert_eq!(fs::read_link(back.join(link)).unwrap(), Path::new(target));
    }
    assert_eq!(fs::metadata(back.join("sub/one")).unwrap().mode() & 0o7777, 0o751);
    assert_eq!(fs::metadata(back.join("empty")).unwrap().mode() & 0o7777, 0o710);
    for name in ["sub/one", "empty/inner", "empty", "sub", ""] {
        let time = fs::metadata(back.join(name)).unwrap().modified().unwrap();
        assert_eq!(time, long_ago(), "{name}");
    }
    assert!(!back.join("socket").exists() && !back.join("pipe").exists());
}

#[test]
fn streams_come_back_and_standard_output_carries_nothing_else() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    for size in [0, 5, 3_000_000] {
        let bytes = noise(3, size);
        let sealed = cluster.with_input(&place, &bytes, ["encrypt", "-"]).ok();
        let opened = cluster.with_input(&place, &sealed.stdout, ["decrypt", "-"]).ok();
        assert!(opened.stdout == bytes, "{size} bytes");
        // And from a stream to a file and back.
        cluster.with_input(&place, &bytes, ["encrypt", "-", "--output", "s", "--force"]).ok();
        let opened = cluster.at(&place, ["decrypt", "s", "--output", "-"]).ok();
        assert!(opened.stdout == bytes, "{size} bytes");
    }
    let together = cluster.at(&place, ["encrypt", "-", "s"]);
    together.failed(2, "usage");
}

#[test]
fn a_context_must_be_given_again_in_any_order_unless_it_is_stored() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("a", b"with a context");
    cluster.at(&place, ["encrypt", "a", "-c", "case=4711", "-c", "unit=b=c"]).ok();
    let open = |pairs: &[&str]| {
        let mut arguments = vec!["decrypt", "a.quorate", "--output", "back", "--force"];
        for pair in pairs {
            arguments.extend(["--context", pair]);
        }
        cluster.at(&place, arguments)
    };
    open(&["case=4711", "unit=b=c"]).ok();
    open(&["unit=b=c", "case=4711"]).ok();
    assert_eq!(fs::read(place.at("back")).unwrap(), b"with a context");
    fs::remove_file(place.at("back")).unwrap();
    for wrong in [&["case=4711"][..], &[], &["case=4711", "unit=b=C"]] {
        open(wrong).failed(5, "object_wrong_context");
        assert!(!place.at("back").exists());
    }
    open(&["case"]).failed(2, "usage");
    open(&["case=1", "case=2"]).failed(2, "usage");

    cluster.at(&place, ["encrypt", "a", "-c", "case=1", "--store-context", "-o", "s"]).ok();
    cluster.at(&place, ["decrypt", "s", "-o", "back"]).ok();
    let inspected = cluster.at(&place, ["inspect", "s"]).json();
    assert!(inspected.to_string().contains("case"), "{inspected}");
    let not_stored = cluster.at(&place, ["inspect", "a.quorate"]).json();
    assert!(!not_stored.to_string().contains("4711"), "{not_stored}");
}

#[test]
fn a_range_of_a_large_file_reads_little_of_it() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let length: u64 = 64 << 20;
    let file = fs::File::create(place.at("big")).unwrap();
    file.set_len(length).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, &[7, 8, 9], length - 3).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"middle", 16_384 * 100 - 3).unwrap();
    cluster.at(&place, ["encrypt", "big"]).ok();

    let slice = |range: &str| {
        let command =
            cluster.admin_in(place.path(), ["decrypt", "big.quorate", "-o", "-", "--range", range]);
        let ran = run(command, b"").ok();
        assert!(ran.bytes_read < 1 << 20, "{range} read {} bytes", ran.bytes_read);
        ran.stdout
    };
    assert_eq!(slice(&format!("{}..{length}", length - 1)), [9]);
    assert_eq!(slice("-3"), [7, 8, 9]);
    assert_eq!(slice("1638397..1638403"), b"middle");
    assert_eq!(slice("0..0"), b"");
    assert_eq!(slice("67108862.."), [8, 9]);
    // The count of bytes is a real one: opening all of it reads all of it.
    let whole = cluster.admin_in(place.path(), ["decrypt", "big.quorate", "-o", "whole"]);
    assert!(run(whole, b"").ok().bytes_read > length);

    for outside in ["0..67108865", "67108865..", "5..4"] {
        cluster
            .at(&place, ["decrypt", "big.quorate", "--range", outside])
            .failed(2, "range_invalid");
    }
    cluster.at(&place, ["decrypt", "big.quorate", "--range", "-2", "-o", "end"]).ok();
    assert_eq!(fs::read(place.at("end")).unwrap(), [8, 9]);
    cluster
        .at(&place, ["decrypt", "big.quorate", "--range", "-1", "-o", "end"])
        .failed(7, "output_exists");
}

#[test]
fn outputs_that_exist_stay_unless_forced() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("a", b"new");
    place.file("tree/x", b"x");
    place.file("a.quorate", b"somebody's");
    fs::create_dir(place.at("tree.quorate")).unwrap();
    for arguments in [
        &["encrypt", "a"][..],
        &["encrypt", "a", "--output", "tree.quorate"],
        &["encrypt", "tree"],
        &["encrypt", "tree", "--output", "a.quorate"],
    ] {
        let ran = cluster.at(&place, arguments);
        ran.failed(7, "output_exists");
    }
    cluster
        .with_input(&place, b"x", ["encrypt", "-", "-o", "a.quorate"])
        .failed(7, "output_exists");
    assert_eq!(fs::read(place.at("a.quorate")).unwrap(), b"somebody's");
    assert_eq!(place.names(), ["a", "a.quorate", "tree", "tree.quorate"]);

    cluster.at(&place, ["encrypt", "a", "tree", "--force"]).ok();
    cluster.at(&place, ["decrypt", "a.quorate"]).failed(7, "output_exists");
    cluster.at(&place, ["decrypt", "tree.quorate"]).failed(7, "output_exists");
    fs::write(place.at("a"), b"changed since").unwrap();
    cluster.at(&place, ["decrypt", "a.quorate", "tree.quorate", "--force"]).ok();
    assert_eq!(fs::read(place.at("a")).unwrap(), b"new");

    // A link is an output that exists too, wherever it leads.
    symlink("elsewhere", place.at("b.quorate")).unwrap();
    place.file("b", b"b");
    cluster.at(&place, ["encrypt", "b"]).failed(7, "output_exists");
    assert!(!place.at("elsewhere").exists());
}

/// `.` and `/` have no name that `.quorate` could be added to; a hidden folder inside would be a surprise.
#[test]
fn a_folder_without_a_name_needs_an_output() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("tree/x", b"x");
    let inside = Place::new();
    inside.file("x", b"x");
    for nameless in [".", ".."] {
        let ran = cluster.at(&inside, ["encrypt", nameless]);
        ran.failed(2, "usage");
        ran.names("--output");
        assert_eq!(inside.names(), ["x"]);
    }
    // A trailing slash changes nothing, and the output may lie in the folder itself.
    cluster.at(&place, ["encrypt", "tree/"]).ok();
    assert_eq!(place.names(), ["tree", "tree.quorate"]);
    cluster.at(&inside, ["encrypt", ".", "--output", "sealed"]).ok();
    assert_eq!(inside.names(), ["sealed", "x"]);
    assert!(inside.at("sealed/x.quorate").exists());
}

#[test]
fn several_files_go_on_past_one_that_fails_and_say_so() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("tree/a", b"a");
    place.file("tree/b", b"b");
    place.file("tree/c", b"c");
    cluster.at(&place, ["encrypt", "tree"]).ok();
    let sealed = place.at("tree.quorate/b.quorate");
    let mut bytes = fs::read(&sealed).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&sealed, bytes).unwrap();
    let ran = cluster.at(&place, ["decrypt", "tree.quorate", "--output", "back"]);
    ran.failed(6, "some_failed");
    let summary: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(summary["files"], 2);
    assert_eq!(summary["failed"][0]["code"], "object_tampered");
    assert_eq!(summary["failed"][0]["path"], "tree.quorate/b.quorate");
    let mut names: Vec<_> =
        fs::read_dir(place.at("back")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn rewrap_changes_headers_only_and_old_headers_still_open() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    cluster.at(&place, ["key", "create", "turning", "--threshold", "2"]).ok();
    place.file("tree/a", noise(4, 100_000));
    place.file("tree/b", noise(5, 10));
    place.file("c", b"c");
    cluster.at(&place, ["encrypt", "--key", "turning", "tree", "c", "-c", "x=1"]).ok();
    fs::set_permissions(place.at("c.quorate"), fs::Permissions::from_mode(0o600)).unwrap();
    set_time(&place.at("c.quorate"), long_ago());
    let old = fs::read(place.at("tree.quorate/a.quorate")).unwrap();
    fs::write(place.at("old"), &old).unwrap();
    fs::write(place.at("old-c"), fs::read(place.at("c.quorate")).unwrap()).unwrap();

    // Nothing to do before the key is rotated.
    let rewrap = ["rewrap", "tree.quorate", "c.quorate", "-c", "x=1"];
    let idle = cluster.at(&place, rewrap).json();
    assert_eq!((&idle["rewrapped"], &idle["unchanged"]), (&0.into(), &3.into()));
    assert_eq!(cluster.at(&place, ["key", "rotate", "turning"]).json()["version"], 2);
    cluster.at(&place, ["rewrap", "c.quorate"]).failed(6, "some_failed");
    assert_eq!(fs::read(place.at("c.quorate")).unwrap(), fs::read(place.at("old-c")).unwrap());
    let done = cluster.at(&place, rewrap).json();
    assert_eq!((&done["rewrapped"], &done["unchanged"]), (&3.into(), &0.into()));

    let new = fs::read(place.at("tree.quorate/a.quorate")).unwrap();
    assert_ne!(new, old);
    // 100,000 bytes are seven chunks with a tag of 16 bytes each.
    let payload = 100_000 + 7 * 16;
    assert!(new.ends_with(&old[old.len() - payload..]), "the payload changed");
    let version = |name: &str| {
        cluster.at(&place, ["inspect", name]).json()["stanzas"][0]["key_version"].clone()
    };
    assert_eq!((version("old"), version("tree.quorate/a.quorate")), (1.into(), 2.into()));
    assert_eq!(fs::metadata(place.at("c.quorate")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(place.at("c.quorate")).unwrap().modified().unwrap(), long_ago());
    for (sealed, back) in [("old", "back-1"), ("tree.quorate/a.quorate", "back-2")] {
        cluster.at(&place, ["decrypt", sealed, "-c", "x=1", "-o", back]).ok();
        assert!(fs::read(place.at(back)).unwrap() == noise(4, 100_000));
    }
}

#[test]
fn inspect_needs_no_profile_and_no_network() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("a", b"secret");
    cluster.at(&place, ["encrypt", "a", "-c", "case=1"]).ok();
    // A home in which nothing is, and an environment in which no node is known.
    let alone = Place::new();
    let sealed = place.at("a.quorate");
    let shown = alone.run([OsStr::new("--json"), OsStr::new("inspect"), sealed.as_os_str()]).json();
    assert_eq!(shown["stanzas"][0]["key_version"], 1);
    assert!(shown["object"].as_str().unwrap().starts_with("object-"), "{shown}");
    let piped = run(alone.command(["--json", "inspect", "-"]), &fs::read(&sealed).unwrap()).json();
    assert_eq!(piped, shown);
    let text = alone.run([OsStr::new("inspect"), sealed.as_os_str()]).ok().text();
    assert!(text.contains("version 1") && text.contains("not stored"), "{text}");
    assert!(!alone.at("home").exists(), "inspect wrote into the home");
}

/// Line 7 of the issue at a size for every run. 10 GiB were measured by hand with the release build.
#[test]
fn memory_stays_below_64_mib_whatever_the_length() {
    const BOUND_KIB: u64 = 64 << 10;
    let (cluster, place) = (Cluster::shared(), Place::new());
    let length = 256 << 20;
    let file = fs::File::create(place.at("big")).unwrap();
    file.set_len(length).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"the end", length - 7).unwrap();
    let big = place.at("big");
    let check = |ran: support::Ran, what: &str| {
        let peak = ran.ok().peak_kib;
        assert!(peak > 1024 && peak < BOUND_KIB, "{what}: {peak} KiB");
    };
    let admin = |arguments: &[&str]| cluster.admin_in(place.path(), arguments);
    let (sealed, back) = (place.at("sealed"), place.at("back"));
    check(run_with_files(admin(&["encrypt", "-"]), Some(&big), Some(&sealed)), "encrypt a stream");
    check(run_with_files(admin(&["decrypt", "-"]), Some(&sealed), Some(&back)), "decrypt a stream");
    assert_eq!(fs::metadata(&back).unwrap().len(), length);
    fs::remove_file(&back).unwrap();
    fs::remove_file(&sealed).unwrap();
    check(run_with_files(admin(&["encrypt", "big"]), None, None), "encrypt a file");
    check(
        run_with_files(admin(&["decrypt", "big.quorate", "-o", "back"]), None, None),
        "decrypt a file",
    );
    let mut end = [0; 7];
    let back = fs::File::open(back).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&back, &mut end, length - 7).unwrap();
    assert_eq!((&end, back.metadata().unwrap().len()), (b"the end", length));
}
