//! Compiles `proto/` to Rust, to the descriptor set that reflection serves, and to the numbers of all
//! fields; and to Rust what is written of sessions, which nobody is served. protox is pure Rust, so
//! that building needs no protoc.

use prost::Message;
use prost_types::DescriptorProto;
use std::{env, error::Error, fmt::Write, fs, path::PathBuf};

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
    let own = descriptors.file.iter().filter(|file| file.package() == "sessiond.v1");
    let mut numbers = String::new();
    own.flat_map(|file| &file.message_type).try_for_each(|it| put_numbers(&mut numbers, it))?;
    fs::write(out.join("field.rs"), numbers)?;
    tonic_prost_build::configure()
        .codec_path("crate::grpc::Codec")
        // Ordered maps: equal messages have equal bytes.
        .btree_map(".")
        // They hold passwords: `src/secrecy.rs` says what they show.
        .skip_debug([".sessiond.v1.JoinOptions", ".sessiond.v1.SessionSettings"])
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=src/record/record.proto");
    let records = protox::compile(["record.proto"], ["src/record"])?;
    tonic_prost_build::configure().compile_fds(records)?;
    Ok(())
}

/// The numbers of a message's fields, as `message::FIELD`, and those of the messages within it.
fn put_numbers(out: &mut String, message: &DescriptorProto) -> std::fmt::Result {
    writeln!(out, "pub mod {} {{", snake_case(message.name()))?;
    for field in &message.field {
        let (name, number) = (field.name().to_uppercase(), field.number());
        writeln!(out, "pub const {name}: u32 = {number};")?;
    }
    message.nested_type.iter().try_for_each(|nested| put_numbers(out, nested))?;
    writeln!(out, "}}")
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
