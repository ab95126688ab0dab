//! What is written of object streams, both ways.

use super::{
    Unreadable,
    names::{read_mode, write_mode},
    read::{Read, all, app_id, moment, user},
    value, wire,
};
use crate::{
    object_stream::{
        Func,
        record::{
            AppChange, Change, Content, Counter, Defined, Elements, End, Gap, Gaps, Head,
            LeafChange, NamedFunction, Place, Recalled, StreamChange,
        },
    },
    session::{
        command::Actor,
        ids::{Key, UserId},
        value::Value,
    },
};
use std::collections::BTreeSet;
use wire::{stream_func::Way, stream_leaf, streams};

pub fn write(change: &Change) -> wire::Streams {
    let change = match change {
        Change::Counter(counter) => streams::Change::Counter(write_counter(counter)),
        Change::App(change) => streams::Change::App(write_app(change)),
        Change::Stream(change) => streams::Change::Stream(write_stream(change)),
        Change::Forgotten { app, serial } => {
            let app = app.to_string();
            streams::Change::Forgotten(wire::StreamAppForgotten { app, serial: *serial })
        }
    };
    wire::Streams { change: Some(change) }
}

pub fn read(streams: wire::Streams) -> Read<Change> {
    let wire::Streams { change } = streams;
    Ok(match change.ok_or(Unreadable::Malformed("a change of no streams"))? {
        streams::Change::Counter(counter) => Change::Counter(read_counter(counter)?),
        streams::Change::App(change) => Change::App(read_app(change)?),
        streams::Change::Stream(change) => Change::Stream(Box::new(read_stream(change)?)),
        streams::Change::Forgotten(wire::StreamAppForgotten { app, serial }) => {
            Change::Forgotten { app: app_id(app)?, serial: moment(serial)? }
        }
    })
}

fn write_counter(counter: &Counter) -> wire::StreamCounter {
    let Counter { epoch, revision, serial, forgotten, gaps: Gaps { horizon, list } } = counter;
    let gap = |Gap { after, until }: &Gap| wire::StreamGap { after: *after, until: *until };
    wire::StreamCounter {
        epoch: *epoch,
        revision: *revision,
        serial: *serial,
        forgotten: *forgotten,
        horizon: *horizon,
        gaps: list.iter().map(gap).collect(),
    }
}

fn read_counter(counter: wire::StreamCounter) -> Read<Counter> {
    let wire::StreamCounter { epoch, revision, serial, forgotten, horizon, gaps } = counter;
    let gap =
        |wire::StreamGap { after, until }| Ok(Gap { after: moment(after)?, until: moment(until)? });
    let list = all(gaps, gap)?;
    let is_ordered = list.is_sorted_by(|a, b| a.until <= b.after);
    if list.len() > Gaps::MOST || !is_ordered || list.iter().any(|gap| gap.until < gap.after) {
        return Err(Unreadable::Malformed("gaps that are none"));
    }
    Ok(Counter {
        epoch: moment(epoch)?,
        revision: moment(revision)?,
        serial: moment(serial)?,
        forgotten: moment(forgotten)?,
        gaps: Gaps { horizon: moment(horizon)?, list },
    })
}

fn write_app(change: &AppChange) -> wire::StreamApp {
    let AppChange { app, serial, after, is_all, forgotten, shared, functions, gone, ends } = change;
    let function = |NamedFunction { name, by, source }: &NamedFunction| wire::StreamFunction {
        name: name.to_string(),
        by: write_actor(by),
        source: source.clone(),
    };
    let end = |End { revision, name, creator, readers }: &End| wire::StreamEnd {
        revision: *revision,
        name: name.to_string(),
        creator: write_actor(creator),
        readers: readers.iter().map(|user| user.to_string()).collect(),
    };
    wire::StreamApp {
        app: app.to_string(),
        serial: *serial,
        after: *after,
        is_all: *is_all,
        forgotten: *forgotten,
        shared: *shared,
        functions: functions
            .as_ref()
            .map(|list| wire::StreamFunctions { items: list.iter().map(function).collect() }),
        gone: gone.iter().map(|name| name.to_string()).collect(),
        ends: ends.iter().map(end).collect(),
    }
}

fn read_app(change: wire::StreamApp) -> Read<AppChange> {
    let wire::StreamApp { app, serial, after, is_all, forgotten, shared, functions, gone, ends } =
        change;
    let function = |wire::StreamFunction { name, by, source }| {
        Ok(NamedFunction { name: name.into(), by: read_actor(by)?, source })
    };
    let end = |wire::StreamEnd { revision, name, creator, readers }| {
        Ok(End {
            revision: moment(revision)?,
            name: name.into(),
            creator: read_actor(creator)?,
            readers: read_readers(readers)?,
        })
    };
    Ok(AppChange {
        app: app_id(app)?,
        serial: moment(serial)?,
        after: moment(after)?,
        is_all,
        forgotten: moment(forgotten)?,
        shared: moment(shared)?,
        functions: functions
            .map(|wire::StreamFunctions { items }| all(items, function))
            .transpose()?,
        gone: gone.into_iter().map(Key::from).collect(),
        ends: all(ends, end)?,
    })
}

fn write_actor(actor: &Actor) -> Option<String> {
    actor.user().map(|user| user.to_string())
}

fn read_actor(id: Option<String>) -> Read<Actor> {
    Ok(id.map(user).transpose()?.map_or(Actor::App, |user| Actor::of(&user)))
}

fn read_readers(readers: Vec<String>) -> Read<BTreeSet<UserId>> {
    readers.into_iter().map(user).collect()
}

fn write_stream(change: &StreamChange) -> wire::Stream {
    let StreamChange {
        app,
        name,
        serial,
        after,
        since,
        until,
        head,
        readers,
        keys,
        funcs,
        removed,
        leaves,
        recalled,
        more,
    } = change;
    let age = |revision: u64| until.saturating_sub(revision);
    let removal = |(at, key): &(u64, Key)| wire::StreamRemoval { age: age(*at), key: text(key) };
    let leaf = |LeafChange { key, changed, content }: &LeafChange| wire::StreamLeaf {
        key: text(key),
        age: age(*changed),
        content: match content {
            Content::Same => None,
            Content::One(value) => Some(stream_leaf::Content::One(value::write(value))),
            Content::Many(many) => Some(stream_leaf::Content::Many(write_elements(many))),
        },
    };
    let recalled_value = |(key, recalled): &(Key, Recalled)| {
        let Recalled { from, until, value } = recalled;
        let value = value.as_ref().map(value::write);
        wire::StreamRecalled { key: text(key), from: *from, until: *until, value }
    };
    let head = head.as_ref().map(|head| {
        let Head { defined, changed, whole_since, shared, leaves, remembered } = head;
        let Place { after, to, key } = shared;
        wire::StreamHead {
            defined: defined.as_ref().map(|Defined { creator, all }| wire::StreamDefined {
                creator: write_actor(creator),
                all: Some(write_func("", all)),
            }),
            age: age(*changed),
            whole_since: *whole_since,
            shared: Some(wire::StreamPlace { after: *after, to: *to, key: text(key) }),
            leaves: *leaves as u64,
            remembered: *remembered as u64,
        }
    });
    wire::Stream {
        app: app.to_string(),
        name: text(name),
        serial: *serial,
        after: *after,
        since: *since,
        until: *until,
        head,
        readers: readers.iter().map(|user| user.to_string()).collect(),
        keys: keys.iter().map(text).collect(),
        funcs: funcs.iter().map(|(key, func)| write_func(key, func)).collect(),
        removed: removed.iter().map(removal).collect(),
        leaves: leaves.iter().map(leaf).collect(),
        recalled: recalled.iter().map(recalled_value).collect(),
        more: *more,
    }
}

fn read_stream(change: wire::Stream) -> Read<StreamChange> {
    let wire::Stream {
        app,
        name,
        serial,
        after,
        since,
        until,
        head,
        readers,
        keys,
        funcs,
        removed,
        leaves,
        recalled,
        more,
    } = change;
    let until = moment(until)?;
    let aged = |age: u64| {
        let revision = until.checked_sub(age);
        revision.ok_or(Unreadable::Malformed("a change before the first revision"))
    };
    let removal = |wire::StreamRemoval { age, key }| Ok((aged(age)?, Key::from(key)));
    let leaf = |wire::StreamLeaf { key, age, content }| {
        let content = match content {
            None => Content::Same,
            Some(stream_leaf::Content::One(value)) => Content::One(value::read(value)?),
            Some(stream_leaf::Content::Many(many)) => Content::Many(read_elements(many)?),
        };
        Ok(LeafChange { key: key.into(), changed: aged(age)?, content })
    };
    let recalled_value = |wire::StreamRecalled { key, from, until, value }| {
        let (from, until) = (moment(from)?, until.map(moment).transpose()?);
        let value = value.map(value::read).transpose()?;
        Ok((Key::from(key), Recalled { from, until, value }))
    };
    let head = head.map(|head| {
        let wire::StreamHead { defined, age, whole_since, shared, leaves, remembered } = head;
        let defined = defined.map(|wire::StreamDefined { creator, all }| {
            let (_, all) = read_func(all.ok_or(Unreadable::Malformed("a stream without a way"))?)?;
            Ok(Defined { creator: read_actor(creator)?, all })
        });
        let shared = shared.ok_or(Unreadable::Malformed("no place"))?;
        let wire::StreamPlace { after, to, key } = shared;
        let shared = Place { after: moment(after)?, to: moment(to)?, key: key.into() };
        Ok(Head {
            defined: defined.transpose()?,
            changed: aged(age)?,
            whole_since: moment(whole_since)?,
            shared,
            leaves: count(leaves)?,
            remembered: count(remembered)?,
        })
    });
    Ok(StreamChange {
        app: app_id(app)?,
        name: name.into(),
        serial: moment(serial)?,
        after: moment(after)?,
        since: moment(since)?,
        until,
        head: head.transpose()?,
        readers: read_readers(readers)?,
        keys: keys.into_iter().map(Key::from).collect(),
        funcs: all(funcs, read_func)?,
        removed: all(removed, removal)?,
        leaves: all(leaves, leaf)?,
        recalled: all(recalled, recalled_value)?,
        more,
    })
}

fn text(key: &Key) -> String {
    key.as_ref().into()
}

fn count(number: u64) -> Read<usize> {
    usize::try_from(number).map_err(|_| Unreadable::Malformed("a number without a bound"))
}

fn write_func(key: &str, func: &Func) -> wire::StreamFunc {
    let way = match func {
        Func::Mode(mode) => Way::Mode(write_mode(*mode)),
        Func::Named(name) => Way::Function(text(name)),
    };
    wire::StreamFunc { key: key.into(), way: Some(way) }
}

fn read_func(func: wire::StreamFunc) -> Read<(Key, Func)> {
    let wire::StreamFunc { key, way } = func;
    let none = Unreadable::Malformed("a key that is read in no way");
    let func = match way.ok_or(none.clone())? {
        Way::Mode(mode) => Func::Mode(read_mode(mode)?.ok_or(none)?),
        Way::Function(name) => Func::Named(name.into()),
    };
    Ok((key.into(), func))
}

fn write_elements(elements: &Elements) -> wire::StreamElements {
    let Elements { began, lost, kept, more, marks } = elements;
    let before = [*began].into_iter().chain(marks.iter().map(|(at, _)| *at));
    wire::StreamElements {
        began: *began,
        lost: *lost,
        kept: *kept as u64,
        more: Some(value::write(more)),
        steps: marks.iter().zip(before).map(|((at, _), last)| at.saturating_sub(last)).collect(),
        counts: marks.iter().map(|(_, count)| *count as u64).collect(),
    }
}

fn read_elements(elements: wire::StreamElements) -> Read<Elements> {
    let wire::StreamElements { began, lost, kept, more, steps, counts } = elements;
    if steps.len() != counts.len() {
        return Err(Unreadable::Malformed("marks that are none"));
    }
    let began = moment(began)?;
    let mut last = began;
    let mark = |(step, number): (u64, u64)| {
        last = moment(last.saturating_add(step))?;
        Ok((last, count(number)?))
    };
    let marks = steps.into_iter().zip(counts).map(mark).collect::<Read<_>>()?;
    let more: Value = value::read(more.ok_or(Unreadable::Malformed("no elements"))?)?;
    Ok(Elements { began, lost: moment(lost)?, kept: count(kept)?, more, marks })
}
