//! What of the object streams is written. This is the one place that lists everything they are made
//! of: each struct is taken apart whole, so that a field that is added has to be dealt with here.

use super::{
    App, Func, Functions, Named, ObjectStreams,
    leaf::{self, Array, Leaf},
    record::{
        AppChange, Change, Content, Counter, Defined, Elements, End, Head, LeafChange,
        NamedFunction, PART_BYTES, Recalled, StreamChange,
    },
    stream::{Access, Stream},
    tracking::{Touch, Touched},
};
use crate::session::{
    ids::{AppId, Key},
    size,
};
use std::mem;

/// For whom something is written.
#[derive(Debug, Clone, Copy)]
struct Writing {
    /// When it is.
    serial: u64,
    /// What changed after this revision is written; 0 = everything.
    since: u64,
    /// That of the last change.
    until: u64,
}

impl ObjectStreams {
    /// Notes what changes from now on, for [`take_changes`](Self::take_changes). There is nothing yet,
    /// or only what was restored.
    pub fn keep_track(&mut self) {
        self.tracking.begin(self.revision);
    }

    /// What has changed since this was asked last, to be written in this order. The counter is the
    /// last: where it is written, everything before it is.
    ///
    /// A caller that cannot write it asks for a [`snapshot`](Self::snapshot) of every app and writes
    /// these, because what comes next builds on it.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let Some(since) = self.tracking.revision() else { return Vec::new() };
        let Some(noted) = self.tracking.take(self.revision) else { return Vec::new() };
        self.serial += 1;
        let writing = Writing { serial: self.serial, since, until: self.revision };
        let mut changes = Vec::new();
        for (id, touched) in noted.apps {
            match self.apps.get_mut(&id) {
                Some(app) => app_changes(&id, app, touched, writing, &mut changes),
                None => changes.push(Change::Forgotten { app: id, serial: self.serial }),
            }
        }
        changes.push(self.counter());
        changes
    }

    /// Where all streams are, as of the last [`take_changes`](Self::take_changes): a snapshot of the
    /// counter. It is to be written after what that gave.
    pub fn counter(&self) -> Change {
        let Self {
            // As it is configured.
            bounds: _,
            epoch,
            revision,
            gaps,
            serial,
            tracking,
            // They are written one by one, and counted.
            apps: _,
            forgotten,
            streams: _,
            functions: _,
        } = self;
        Change::Counter(Counter {
            epoch: *epoch,
            revision: tracking.revision().unwrap_or(*revision),
            serial: *serial,
            forgotten: *forgotten,
            gaps: gaps.clone(),
        })
    }

    /// The apps of which there is something to know.
    pub fn apps(&self) -> impl Iterator<Item = &AppId> {
        self.apps.keys()
    }

    /// Everything of an app, in the place of all that was written of it. Nothing = there is nothing to
    /// know of it any more. It is to be written after what [`take_changes`](Self::take_changes) gave.
    pub fn snapshot(&mut self, id: &AppId) -> Vec<Change> {
        let Some(app) = self.apps.get(id) else { return Vec::new() };
        self.serial += 1;
        let writing = Writing { serial: self.serial, since: 0, until: self.revision };
        let mut changes = own_changes(id, app, None, writing);
        for (name, stream) in &app.streams {
            changes.extend(stream_changes(id, name, stream, true, 0, writing));
        }
        changes
    }
}

fn app_changes(
    id: &AppId,
    app: &mut App,
    touched: Touched,
    writing: Writing,
    changes: &mut Vec<Change>,
) {
    let Touched { own, functions, mut streams } = touched;
    if app.recorded == 0 {
        changes.extend(own_changes(id, app, None, writing));
        app.recorded = writing.serial;
        // Whatever was known of an app of this name is dropped.
        streams.extend(app.streams.keys().map(|name| (name.clone(), Touch::Defined)));
    } else if own || functions {
        let gone = streams.keys().filter(|name| !app.streams.contains_key(*name)).cloned();
        let news = Own { functions, gone: gone.collect() };
        changes.extend(own_changes(id, app, Some(news), writing));
        app.recorded = writing.serial;
    }
    for (name, touch) in streams {
        let Some(stream) = app.streams.get_mut(&name) else { continue };
        let is_whole = stream.recorded == 0 || stream.whole_since > writing.since;
        let writing = if is_whole { Writing { since: 0, ..writing } } else { writing };
        let is_defined = is_whole || touch == Touch::Defined;
        let parts = stream_changes(id, &name, stream, is_defined, stream.recorded, writing);
        let is_nothing = !is_whole
            && touch == Touch::Recalled
            && matches!(&parts[..], [Change::Stream(part)] if part.leaves.is_empty());
        if !is_nothing {
            changes.extend(parts);
            stream.recorded = writing.serial;
        }
        let recalled = stream.leaves.values_mut().flat_map(|leaf| &mut leaf.recalled);
        recalled.for_each(|recalled| recalled.is_recorded = true);
    }
}

/// What has changed of an app beside its streams.
#[derive(Debug)]
struct Own {
    functions: bool,
    gone: Vec<Key>,
}

/// What an app has beside its streams, if nothing is named: all of it.
fn own_changes(id: &AppId, app: &App, news: Option<Own>, writing: Writing) -> Vec<Change> {
    let App {
        streams: _,
        // It follows from the streams.
        changes: _,
        functions,
        ended,
        forgotten,
        shared,
        recorded,
    } = app;
    let is_all = news.is_none();
    let news = news.unwrap_or(Own { functions: true, gone: Vec::new() });
    let mut change = AppChange {
        app: id.clone(),
        serial: writing.serial,
        after: if is_all { 0 } else { *recorded },
        is_all,
        forgotten: *forgotten,
        shared: *shared,
        functions: news.functions.then(|| named(functions)),
        gone: Vec::new(),
        ends: Vec::new(),
    };
    // What is next, of this that is already said.
    let next =
        AppChange { after: writing.serial, is_all: false, functions: None, ..change.clone() };
    let all =
        functions.iter().map(|(name, known)| name.len() + known.function.source().len() + 256);
    let (mut changes, mut bytes) = (Vec::new(), all.sum());
    let mut split = |change: &mut AppChange, more: usize| {
        if bytes + more > PART_BYTES {
            changes.push(Change::App(mem::replace(change, next.clone())));
            bytes = 0;
        }
        bytes += more;
    };
    for name in news.gone {
        split(&mut change, name.len() + 8);
        change.gone.push(name);
    }
    let since = if is_all { 0 } else { writing.since };
    for (revision, name, access) in ended.iter().filter(|(at, ..)| *at > since) {
        let Access { creator, readers } = &**access;
        let bytes = readers.iter().map(|user| user.len() + 4).sum::<usize>();
        split(&mut change, bytes + name.len() + 256);
        change.ends.push(End {
            revision: *revision,
            name: name.clone(),
            creator: creator.clone(),
            readers: readers.clone(),
        });
    }
    changes.push(Change::App(change));
    changes
}

fn named(functions: &Functions) -> Vec<NamedFunction> {
    let function = |(name, known): (&Key, &Named)| {
        let Named { by, function } = known;
        let source = function.source().to_owned();
        NamedFunction { name: name.clone(), by: by.clone(), source }
    };
    functions.iter().map(function).collect()
}

fn stream_changes(
    id: &AppId,
    name: &Key,
    stream: &Stream,
    is_defined: bool,
    after: u64,
    writing: Writing,
) -> Vec<Change> {
    let Stream {
        access,
        changed,
        shared,
        keys,
        all,
        funcs,
        leaves,
        removed,
        whole_since,
        recorded: _,
    } = stream;
    let Access { creator, readers } = &**access;
    let defined = is_defined.then(|| Defined { creator: creator.clone(), all: all.clone() });
    let mut parts = Parts::begin(StreamChange {
        app: id.clone(),
        name: name.clone(),
        serial: writing.serial,
        after,
        since: writing.since,
        until: writing.until,
        head: Some(Head {
            defined,
            changed: *changed,
            whole_since: *whole_since,
            shared: shared.clone(),
            leaves: leaves.len(),
            remembered: removed.len(),
        }),
        readers: Default::default(),
        keys: Default::default(),
        funcs: Vec::new(),
        removed: Vec::new(),
        leaves: Vec::new(),
        recalled: Vec::new(),
        more: false,
    });
    if is_defined {
        for user in readers {
            parts.room(user.len()).readers.insert(user.clone());
        }
        for key in keys {
            parts.room(key.len()).keys.insert(key.clone());
        }
        for (key, func) in funcs {
            let bytes = match func {
                Func::Mode(_) => 0,
                Func::Named(name) => name.len(),
            };
            parts.room(key.len() + bytes).funcs.push((key.clone(), func.clone()));
        }
    }
    for (at, key) in removed.iter().filter(|(at, _)| *at > writing.since) {
        parts.room(key.len()).removed.push((*at, key.clone()));
    }
    for (key, leaf) in leaves {
        let Leaf { content, changed, recalled } = leaf;
        let has_changed = *changed > writing.since;
        if !has_changed && recalled.iter().all(|recalled| recalled.is_recorded) {
            continue;
        }
        let content = if has_changed { of_content(content, writing.since) } else { Content::Same };
        let leaf = LeafChange { key: key.clone(), changed: *changed, content };
        parts.room(leaf_bytes(&leaf)).leaves.push(leaf);
        for recalled in recalled {
            let leaf::Recalled { from, until, value, is_recorded } = recalled;
            let is_known = from == changed || (*is_recorded && writing.since > 0);
            let recalled = Recalled {
                from: *from,
                until: (*until != u64::MAX).then_some(*until),
                value: (!is_known).then(|| value.clone()),
            };
            let bytes = recalled.value.as_ref().map_or(0, size::of);
            parts.room(key.len() + bytes).recalled.push((key.clone(), recalled));
        }
    }
    parts.end()
}

fn of_content(content: &leaf::Content, since: u64) -> Content {
    let array = match content {
        leaf::Content::One(value) => return Content::One(value.clone()),
        leaf::Content::Many(array) => array,
    };
    let Array {
        elements,
        marks,
        // They follow from the elements.
        bytes: _,
        began,
        lost,
    } = array;
    // One that began later is another array.
    let kept = if *began <= since { array.count(since) } else { 0 };
    Content::Many(Elements {
        began: *began,
        lost: *lost,
        kept,
        more: elements.part(kept, elements.len()),
        marks: marks.iter().filter(|(at, _)| kept == 0 || *at > since).copied().collect(),
    })
}

fn leaf_bytes(leaf: &LeafChange) -> usize {
    let LeafChange { key, changed: _, content } = leaf;
    let content = match content {
        Content::Same => 0,
        Content::One(value) => size::of(value),
        Content::Many(elements) => size::of(&elements.more) + 8 * elements.marks.len() + 32,
    };
    key.len() + content + 16
}

/// The parts of a stream.
struct Parts {
    done: Vec<Change>,
    part: StreamChange,
    bytes: usize,
}

impl Parts {
    fn begin(part: StreamChange) -> Self {
        Self { done: Vec::new(), part, bytes: 0 }
    }

    /// The part that has room for something, or that begins with it.
    fn room(&mut self, bytes: usize) -> &mut StreamChange {
        // With its head and those of what is around it.
        let bytes = bytes + 16;
        if self.bytes > 0 && self.bytes + bytes > PART_BYTES {
            let next = StreamChange {
                app: self.part.app.clone(),
                name: self.part.name.clone(),
                serial: self.part.serial,
                after: self.part.after,
                since: self.part.since,
                until: self.part.until,
                head: None,
                readers: Default::default(),
                keys: Default::default(),
                funcs: Vec::new(),
                removed: Vec::new(),
                leaves: Vec::new(),
                recalled: Vec::new(),
                more: false,
            };
            let full = StreamChange { more: true, ..mem::replace(&mut self.part, next) };
            self.done.push(Change::Stream(Box::new(full)));
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.part
    }

    fn end(mut self) -> Vec<Change> {
        self.done.push(Change::Stream(Box::new(self.part)));
        self.done
    }
}
