//! The clients: each writes, looks or reads at any node, and sends again what is not answered.

use crate::{
    call::{FACTS, Fact, Outcome, Request, What},
    check::{Register, Room},
    common::{Core, Event, Message, ToClient, Told},
    net::{CLIENTS, NODES},
    reader::Reader,
};
use sessiond::session::{
    ids::{AppId, SessionId},
    limits::{Micros, SECOND},
    settings::Durability,
};

/// After so long without an answer a call is made again.
const DEADLINE: Micros = 2 * SECOND;

/// How long a client rests between two calls.
const REST: std::ops::Range<Micros> = SECOND / 5..3 * SECOND;

/// How many of the facts of a room are written.
const WRITTEN: usize = 4;

/// How many rooms an app has.
const ROOMS: usize = 1;

pub struct Clients {
    rooms: Vec<(AppId, Room)>,
    callers: Vec<Caller>,
    churns: Vec<Churn>,
    readers: Vec<Reader>,
    /// The numbers of calls and streams.
    numbers: u64,
    /// Nobody begins anything new.
    pub is_quiet: bool,
}

/// Who makes one call after the other.
struct Caller {
    room: usize,
    does: Does,
    rests_until: Micros,
    call: Option<Call>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Open,
    Write(Fact),
    Look,
}

/// A call that is not answered.
struct Call {
    /// As it was sent last.
    number: u64,
    request: Request,
    again_at: Micros,
    begun_at: Micros,
    /// How often it was sent.
    sent: u32,
    /// The session that it is about, by how often it was lost.
    lost: u64,
}

/// Who opens and deletes sessions.
struct Churn {
    app: AppId,
    life: Register,
    durability: Durability,
    call: Option<Call>,
    /// Whether it is looked what is there.
    looks: bool,
    /// The last session may be opened again by a copy of the call that opened it: what is remembered of a
    /// session ends with it.
    may_come_back: bool,
    rests_until: Micros,
}

impl Clients {
    pub fn new(core: &mut Core, apps: Vec<AppId>) -> Self {
        let (mut rooms, mut callers, mut churns, mut readers) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let first = core.draw.usize(..4);
        for (at, app) in apps.iter().enumerate() {
            for _ in 0..ROOMS {
                let room = rooms.len();
                rooms.push((app.clone(), Room::new(first + room, 0)));
                let mut facts = FACTS;
                core.draw.shuffle(&mut facts);
                let writes = facts.into_iter().take(WRITTEN).map(Does::Write);
                for does in [Does::Open, Does::Look].into_iter().chain(writes) {
                    let rests_until = core.draw.u64(..5 * SECOND);
                    callers.push(Caller { room, does, rests_until, call: None });
                }
                readers.push(Reader::new(room));
            }
            churns.push(Churn {
                app: app.clone(),
                life: Register::default(),
                durability: if at % 2 == 0 { Durability::Sync } else { Durability::Async },
                call: None,
                looks: false,
                may_come_back: false,
                rests_until: core.draw.u64(..5 * SECOND),
            });
        }
        Self { rooms, callers, churns, readers, numbers: 0, is_quiet: false }
    }

    /// Does what is due.
    pub fn turn(&mut self, core: &mut Core) {
        for at in 0..self.callers.len() {
            self.turn_caller(core, at);
        }
        for churn in &mut self.churns {
            churn.turn(core, &mut self.numbers, self.is_quiet);
        }
        for reader in &mut self.readers {
            let (app, room) = &self.rooms[reader.room];
            reader.turn(core, app, room, &mut self.numbers);
        }
    }

    fn turn_caller(&mut self, core: &mut Core, at: usize) {
        let caller = &mut self.callers[at];
        let (app, room) = &mut self.rooms[caller.room];
        if let Some(call) = &mut caller.call {
            if call.again_at <= core.now {
                call.send(core, &mut self.numbers);
            }
            return;
        }
        let is_due = caller.rests_until <= core.now
            && (room.opened_at.is_none() == (caller.does == Does::Open))
            && (!self.is_quiet || caller.does == Does::Look);
        if !is_due {
            return;
        }
        let what = match caller.does {
            Does::Open => What::Open(room.durability),
            Does::Look => What::Look,
            Does::Write(fact) => {
                let number = room.facts.get_mut(&fact).expect("all are there").send();
                What::Put(fact, number)
            }
        };
        let id = room.id();
        let mut call = Call::new(core, app, &id, what, room.lost);
        call.send(core, &mut self.numbers);
        caller.call = Some(call);
    }

    /// Takes in what a node says.
    pub fn take(&mut self, core: &mut Core, told: ToClient) {
        match told {
            ToClient::Reply(number, outcome) => self.answered(core, number, outcome),
            ToClient::Stream(number, made_at, told) => {
                let Some(reader) = self.readers.iter_mut().find(|it| it.hears(number)) else {
                    return;
                };
                let room = &mut self.rooms[reader.room].1;
                let is_gone = matches!(told, Told::NotFound) && reader.lost == room.lost;
                let outcome = reader.take(core, room, made_at, told);
                if is_gone {
                    lost(core, room);
                }
                if let Err(fault) = outcome {
                    core.wrong(format_args!("{}: {fault}", room.id()));
                }
            }
        }
    }

    fn answered(&mut self, core: &mut Core, number: u64, outcome: Outcome) {
        let is_of = |call: &Option<Call>| call.as_ref().is_some_and(|it| it.number == number);
        if let Some(churn) = self.churns.iter_mut().find(|it| is_of(&it.call)) {
            return churn.answered(core, outcome);
        }
        let Some(caller) = self.callers.iter_mut().find(|it| is_of(&it.call)) else { return };
        let Some(call) = &mut caller.call else { return };
        let room = &mut self.rooms[caller.room].1;
        let id = call.request.session.clone();
        if call.lost != room.lost {
            // The session is given up; so is what was on its way to it.
            caller.call = None;
            return;
        }
        core.trace(format_args!("{id} {:?} is answered {outcome:?}", call.request.what));
        match outcome {
            Outcome::Unavailable => {
                call.again_at = core.now + SECOND / 4;
                call.number = 0;
                return;
            }
            Outcome::NotFound => lost(core, room),
            Outcome::Refused(why) => core.wrong(format_args!("{id}: {why}")),
            Outcome::Done => match caller.does {
                Does::Write(fact) => {
                    let register = room.facts.get_mut(&fact).expect("all are there");
                    register.answered(register.sent, core.now);
                }
                _ => room.opened_at = Some(core.now),
            },
            Outcome::Found(found) => {
                for (fact, found) in found {
                    if let Err(fault) = room.judge(fact, found, call.begun_at) {
                        core.wrong(format_args!("{id}: {fault}"));
                    }
                }
            }
        }
        caller.call = None;
        caller.rests_until = core.now + core.draw.u64(REST);
    }

    /// Whether all that was asked for is answered.
    pub fn is_idle(&self) -> bool {
        let calls = self.callers.iter().filter(|it| it.does != Does::Look).map(|it| &it.call);
        calls.chain(self.churns.iter().map(|it| &it.call)).all(Option::is_none)
    }

    /// How often what was shown was taken in.
    pub fn shown(&self) -> u64 {
        self.readers.iter().map(|reader| reader.shown).sum()
    }
}

/// A session is not there.
fn lost(core: &mut Core, room: &mut Room) {
    match room.durability {
        Durability::None => {
            core.trace(format_args!("{} is lost", room.id()));
            *room = Room::new(room.number, room.lost + 1);
        }
        _ if room.opened_at.is_some() => {
            core.wrong(format_args!("{}: it was opened, and is not there", room.id()));
        }
        _ => {}
    }
}

impl Call {
    fn new(core: &Core, app: &AppId, session: &str, what: What, lost: u64) -> Self {
        let session = SessionId::new(session).expect("an id");
        let id = (what != What::Look).then(|| format!("{what:?} {session}").into());
        let request = Request { app: app.clone(), session, what, id };
        Self { number: 0, request, again_at: 0, begun_at: core.now, sent: 0, lost }
    }

    /// Sends it to any node.
    fn send(&mut self, core: &mut Core, numbers: &mut u64) {
        *numbers += 1;
        self.number = *numbers;
        self.sent += 1;
        self.again_at = core.now + DEADLINE;
        let to = core.draw.usize(..NODES);
        let (number, request) = (self.number, self.request.clone());
        core.trace(format_args!(
            "{} {} {:?} is sent to {to} as {number}",
            request.app, request.session, request.what
        ));
        match core.present[to] {
            Some(_) => core.call(CLIENTS, to, Message::Call { number, request, entry: None }),
            // The connection is refused.
            None => {
                let refused = ToClient::Reply(number, Outcome::Unavailable);
                core.at(core.now, Event::AtClient(refused));
            }
        }
    }
}

impl Churn {
    fn id(&self) -> String {
        format!("churn-{}", self.life.sent.div_ceil(2))
    }

    fn turn(&mut self, core: &mut Core, numbers: &mut u64, is_quiet: bool) {
        if let Some(call) = &mut self.call {
            if call.again_at <= core.now {
                call.send(core, numbers);
            }
            return;
        }
        if self.rests_until > core.now || (is_quiet && !self.looks) {
            return;
        }
        let what = match self.looks {
            true => What::Look,
            false if self.life.send() % 2 == 1 => What::Open(self.durability),
            false => What::Delete,
        };
        let mut call = Call::new(core, &self.app, &self.id(), what, 0);
        call.send(core, numbers);
        self.call = Some(call);
    }

    fn answered(&mut self, core: &mut Core, outcome: Outcome) {
        let Some(call) = &mut self.call else { return };
        let id = call.request.session.clone();
        let app = &self.app;
        core.trace(format_args!("{app} {id} {:?} is answered {outcome:?}", call.request.what));
        let is_there = self.life.sent % 2 == 1;
        match (outcome, call.request.what) {
            (Outcome::Unavailable, _) => {
                call.again_at = core.now + SECOND / 4;
                call.number = 0;
                return;
            }
            (Outcome::Done, what) => {
                self.looks = true;
                if let What::Open(_) = what {
                    self.may_come_back = call.sent > 1;
                }
            }
            (Outcome::Found(_), What::Look) if is_there || self.may_come_back => {
                self.looks = false;
            }
            (Outcome::NotFound, What::Look) if !is_there => self.looks = false,
            (outcome, what) => {
                core.wrong(format_args!("{id}: after {} {what:?} is {outcome:?}", self.life.sent));
            }
        }
        self.call = None;
        self.rests_until = core.now + core.draw.u64(REST);
    }
}
