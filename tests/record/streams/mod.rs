//! Object streams that are written and restored are as they were.

mod follower;
mod log;
mod shadow;
mod single;

use sessiond::{
    object_stream::{Bounds, Definition, Func, Function, Mode, ObjectStreams},
    session::{
        command::Actor,
        ids::{AppId, Key, UserId},
        value::Value,
    },
};

const BOUNDS: Bounds = Bounds { streams: 10, value_bytes: 16 * 1024 };

fn app(name: &str) -> AppId {
    AppId::new(name).unwrap()
}

fn user(name: &str) -> Actor {
    Actor::User(UserId::new(name).unwrap().into())
}

fn key(key: &str) -> Key {
    key.into()
}

fn integers(items: impl IntoIterator<Item = i64>) -> Value {
    Value::Integers(items.into_iter().collect())
}

fn object(values: Vec<(Key, Value)>) -> Definition {
    Definition {
        object: values,
        keys: Default::default(),
        funcs: Default::default(),
        readers: Default::default(),
    }
}

fn tracked() -> ObjectStreams {
    let mut streams = ObjectStreams::new(BOUNDS, 7);
    streams.keep_track();
    streams
}

fn by(function: &str) -> Func {
    match function {
        "" => Func::Mode(Mode::AllLatest),
        "latest" => Func::Mode(Mode::Latest),
        name => Func::Named(key(name)),
    }
}

fn function(source: &str) -> Function {
    Function::new(source).unwrap()
}
