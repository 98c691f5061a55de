//! Compiles the published `.proto` files with protox (no protoc binary), prost and pbjson.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../spec/proto");
    println!("cargo:rerun-if-changed=../../spec/proto");
    let files = ["quorate/v1/node.proto", "quorate/store/v1/store.proto"];
    let set = protox::compile(files, [root])?;
    // `Debug` of what a node answers an evaluation with is written by hand in `src/proto.rs`.
    prost_build::Config::new()
        .skip_debug([".quorate.v1.EvaluateReply"])
        .compile_fds(set.clone())?;
    let mut json = pbjson_build::Builder::new();
    for file in &set.file {
        json.register_file_descriptor(file.clone());
    }
    json.build(&[".quorate.v1"])?;
    Ok(())
}
