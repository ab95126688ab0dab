//! Compiles `proto/` to Rust and to the descriptor set that reflection serves. protox is pure Rust,
//! so that building needs no protoc.

use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let dir = PathBuf::from("proto/sessiond/v1");
    let mut protos: Vec<PathBuf> = fs::read_dir(&dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    protos.sort();
    let descriptors = protox::compile(&protos, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("sessiond.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::grpc::Codec")
        // Ordered maps: equal messages have equal bytes.
        .btree_map(".")
        // They hold passwords: `src/secrecy.rs` says what they show.
        .skip_debug([".sessiond.v1.JoinOptions", ".sessiond.v1.SessionSettings"])
        .compile_fds(descriptors)?;
    Ok(())
}
