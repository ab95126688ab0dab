//! Compiles `proto/` to Rust, to the descriptor set that reflection serves, to the numbers of all
//! fields, and to what requests are made of; and to Rust what is written of sessions and what nodes tell
//! each other, which nobody is served. protox is pure Rust, so that building needs no protoc.

use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use std::{collections::BTreeMap, env, error::Error, fmt::Write, fs, path::PathBuf};

/// Large fields that messages of which there are many rarely have: they stand apart.
const BOXED: [&str; 2] =
    [".sessiond.v1.Attach.open_if_missing", ".sessiond.v1.SessionSubscription.open_if_missing"];

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
    fs::write(out.join("shape.rs"), shapes(&descriptors)?)?;
    let configuration = tonic_prost_build::configure();
    BOXED
        .iter()
        .fold(configuration, |configuration, path| configuration.boxed(*path))
        .codec_path("crate::grpc::Codec")
        // Ordered maps: equal messages have equal bytes.
        .btree_map(".")
        // They hold passwords: `src/secrecy.rs` says what they show.
        .skip_debug([".sessiond.v1.JoinOptions", ".sessiond.v1.SessionSettings"])
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=src/record/record.proto");
    let records = protox::compile(["record.proto"], ["src/record"])?;
    tonic_prost_build::configure().compile_fds(records)?;
    println!("cargo:rerun-if-changed=src/server/nodes/introduction.proto");
    let introductions = protox::compile(["introduction.proto"], ["src/server/nodes"])?;
    tonic_prost_build::configure().compile_fds(introductions)?;
    println!("cargo:rerun-if-changed=src/cluster/cluster.proto");
    let messages = protox::compile(["cluster.proto"], ["src/cluster"])?;
    tonic_prost_build::configure().compile_fds(messages)?;
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

/// A message with its Rust type.
type Messages<'a> = BTreeMap<String, (String, &'a DescriptorProto)>;

/// What messages are made of, for `src/grpc/weight.rs`.
fn shapes(descriptors: &FileDescriptorSet) -> Result<String, std::fmt::Error> {
    let mut messages = Messages::new();
    for file in &descriptors.file {
        let rust = match file.package() {
            "sessiond.v1" => "crate::proto",
            _ => "prost_types",
        };
        for message in &file.message_type {
            gather(&mut messages, &format!(".{}", file.package()), rust, message);
        }
    }
    let mut out = String::new();
    for (name, (rust, message)) in &messages {
        let parts: String =
            message.field.iter().filter_map(|field| part(&messages, name, field)).collect();
        let constant = constant(name);
        writeln!(
            out,
            "static {constant}: Shape = Shape {{ size: size_of::<{rust}>(), parts: &[{parts}] }};"
        )?;
        if rust.starts_with("crate::") {
            let shape = match name.ends_with("Request") {
                true => format!("Some(&{constant})"),
                false => "None".to_owned(),
            };
            writeln!(
                out,
                "impl Shaped for {rust} {{ const SHAPE: Option<&'static Shape> = {shape}; }}"
            )?;
        }
    }
    Ok(out)
}

fn gather<'a>(messages: &mut Messages<'a>, within: &str, rust: &str, message: &'a DescriptorProto) {
    let name = message.name();
    let is_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
    let own = match (is_entry, name) {
        (true, _) => {
            let [key, value] = [0, 1].map(|at| scalar(&message.field[at]));
            format!("({key}, {value})")
        }
        (false, "Empty") => "()".to_owned(),
        (false, _) => format!("{rust}::{name}"),
    };
    let (inside, rust) = (format!("{within}.{name}"), format!("{rust}::{}", snake_case(name)));
    for nested in &message.nested_type {
        gather(messages, &inside, &rust, nested);
    }
    messages.insert(inside, (own, message));
}

/// The Rust type of the key or the value of a map.
fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message => {
            let name = field.type_name().trim_start_matches('.');
            let (package, name) = name.rsplit_once('.').expect("it is in a package");
            let rust = if package == "sessiond.v1" { "crate::proto" } else { "prost_types" };
            format!("{rust}::{name}")
        }
        Type::String => "String".to_owned(),
        Type::Bytes => "Vec<u8>".to_owned(),
        _ => "u64".to_owned(),
    }
}

/// How a field takes memory; none if its message has room for it.
fn part(messages: &Messages<'_>, within: &str, field: &FieldDescriptorProto) -> Option<String> {
    let is_many = field.label() == Label::Repeated;
    let is_apart = is_many || BOXED.contains(&&*format!("{within}.{}", field.name()));
    let part = match (field.r#type(), is_many) {
        (Type::Message, _) => {
            let (_, message) = messages.get(field.type_name())?;
            let is_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
            let kind = match (is_apart, is_entry) {
                (_, true) => "Entries",
                (true, false) => "Apart",
                (false, false) => "Within",
            };
            format!("{kind}(&{})", constant(field.type_name()))
        }
        (Type::String | Type::Bytes, true) => "Texts".to_owned(),
        (Type::String | Type::Bytes, false) => "Text".to_owned(),
        (Type::Double | Type::Fixed64 | Type::Sfixed64, true) => "Fixed(8)".to_owned(),
        (Type::Float | Type::Fixed32 | Type::Sfixed32, true) => "Fixed(4)".to_owned(),
        (_, true) => "Numbers".to_owned(),
        (_, false) => return None,
    };
    Some(format!("({}, {:?}, Part::{part}), ", field.number(), field.name()))
}

fn constant(name: &str) -> String {
    name.trim_start_matches('.').replace('.', "_").to_uppercase()
}
