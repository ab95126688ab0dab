//! What a session holds after all that was done to it, by the rules of the proto, and what each
//! reader is to be shown of it.

use crate::support::*;
use sessiond::proto::{DeliveryOptions, DepartureReason, PropsWrite, Role, SessionInfo};
use std::collections::{BTreeMap, BTreeSet};

/// A user; empty = the app.
pub type User = &'static str;

/// How long after joining a tied member without a stream leaves, in milliseconds.
pub const JOIN_TIMEOUT: u64 = 1_500;

/// A membership.
#[derive(Debug, Clone)]
pub struct Seat {
    pub role: Role,
    pub streams: u32,
    pub props: Shown,
    disconnected: bool,
    is_tied: bool,
    has_streamed: bool,
    /// Counts the memberships of the session.
    order: u64,
    leaves_at: Option<u64>,
}

/// What is shown of a session, or will be with the next frame.
#[derive(Debug, Clone, Default)]
pub struct Room {
    pub seats: BTreeMap<User, Seat>,
    pub host: Option<User>,
    owner: Option<User>,
    data: [Shown; 2],
    propnames: Vec<String>,
    hostprops: Vec<String>,
}

/// A frame, with the description of the session as it was told then.
#[derive(Debug)]
pub struct Framed {
    pub room: Room,
    info: SessionInfo,
}

/// How a user joins.
#[derive(Debug, Clone, Default)]
pub struct Joining {
    pub spectator: bool,
    /// None = EXPLICIT, or TIED where a stream joins.
    pub is_tied: Option<bool>,
    pub is_stream: bool,
    pub props: Shown,
}

/// What is taken out of the write that a user or the app made of session data.
#[derive(Debug)]
struct DataWrite {
    writer: User,
    part: usize,
    write: PropsWrite,
}

/// A session.
#[derive(Debug)]
pub struct Model {
    pub is_hosted: bool,
    pub now: Room,
    pub epoch: u64,
    pub revision: u64,
    /// The frame of the last reset; 0 = none.
    pub reset_at: u64,
    pub frames: BTreeMap<u64, Framed>,
    pub banned: BTreeSet<User>,
    /// The frames in which users left, with the reasons.
    departures: Vec<(u64, User, DepartureReason)>,
    /// Why each user left last.
    reasons: BTreeMap<User, DepartureReason>,
    roles: BTreeMap<User, Role>,
    /// Whose props, and which, wait for the next host.
    heritage: Option<(u64, Shown)>,
    data_writes: Vec<DataWrite>,
    seats: u64,
    rejoin_grace: u64,
    /// What was taken off since it was last asked: who left, and why.
    pub gone: Vec<(User, DepartureReason)>,
}

impl Model {
    pub fn new(is_hosted: bool, rejoin_grace: u64) -> Self {
        Self {
            is_hosted,
            now: Room::default(),
            epoch: 0,
            revision: 0,
            reset_at: 0,
            frames: BTreeMap::new(),
            banned: BTreeSet::new(),
            departures: Vec::new(),
            reasons: BTreeMap::new(),
            roles: BTreeMap::new(),
            heritage: None,
            data_writes: Vec::new(),
            seats: 0,
            rejoin_grace,
            gone: Vec::new(),
        }
    }

    /// The last frame.
    pub fn shown(&self) -> &Framed {
        &self.frames[&self.revision]
    }

    /// Opened by a user, who owns it.
    pub fn owned_by(&mut self, user: User) {
        self.now.owner = Some(user);
        self.roles.insert(user, Role::Owner);
    }

    pub fn is_member(&self, user: User) -> bool {
        self.now.seats.contains_key(user)
    }

    /// Whether a user is a member and not a spectator.
    pub fn sends(&self, user: User) -> bool {
        self.now.seats.get(user).is_some_and(|seat| seat.role != Role::Spectator)
    }

    /// The role that a user comes to have.
    pub fn role_on_joining(&self, user: User, spectator: bool) -> Role {
        let role = if spectator { Role::Spectator } else { Role::Member };
        self.roles.get(user).copied().unwrap_or(role)
    }

    /// The session was seen at a frame: all that was accepted is in it, if it is a new one.
    pub fn observe(&mut self, epoch: u64, revision: u64, info: SessionInfo) {
        if revision == self.revision {
            return;
        }
        if let Some(Framed { room, .. }) = self.frames.get(&self.revision) {
            for user in room.seats.keys().filter(|user| !self.now.seats.contains_key(*user)) {
                self.departures.push((revision, user, self.reasons[user]));
            }
        }
        (self.epoch, self.revision) = (epoch, revision);
        self.data_writes.clear();
        self.frames.insert(revision, Framed { room: self.now.clone(), info });
    }

    /// When the next member leaves, if it does not come back.
    pub fn deadlines(&self) -> impl Iterator<Item = u64> {
        self.now.seats.values().filter_map(|seat| seat.leaves_at)
    }

    pub fn pass_time(&mut self, time: u64) {
        let is_due = |seat: &Seat| seat.leaves_at.is_some_and(|at| at <= time);
        while let Some(user) = self.first(|_, seat| is_due(seat)) {
            self.remove(user, DepartureReason::Lost);
        }
    }

    /// Joins, or joins again, which changes neither role nor props.
    pub fn join(&mut self, time: u64, user: User, joining: Joining, record: &Shown) {
        if let Some(seat) = self.now.seats.get_mut(user) {
            seat.is_tied = joining.is_tied.unwrap_or(seat.is_tied);
            let is_connected = seat.is_tied || seat.streams > 0 || !seat.has_streamed;
            self.connect(user, is_connected);
        } else {
            let role = self.role_on_joining(user, joining.spectator);
            let mut props = Shown::new();
            if role != Role::Spectator {
                props.extend(record.clone());
                props.extend(joining.props);
            }
            self.seats += 1;
            let seat = Seat {
                role,
                streams: 0,
                props,
                disconnected: false,
                is_tied: joining.is_tied.unwrap_or(joining.is_stream),
                has_streamed: false,
                order: self.seats,
                leaves_at: None,
            };
            self.now.seats.insert(user, seat);
        }
        let seat = self.now.seats.get_mut(user).expect("it is a member");
        match seat.is_tied {
            true if seat.streams == 0 => {
                seat.leaves_at = seat.leaves_at.max(Some(time + JOIN_TIMEOUT));
            }
            true => {}
            false => seat.leaves_at = None,
        }
        self.settle_host();
    }

    pub fn stream_opened(&mut self, user: User) {
        let seat = self.now.seats.get_mut(user).expect("it is a member");
        seat.leaves_at = None;
        seat.streams += 1;
        seat.has_streamed = true;
        self.connect(user, true);
    }

    /// The client has cut a stream.
    pub fn stream_cut(&mut self, time: u64, user: User) {
        let seat = self.now.seats.get_mut(user).expect("it is a member");
        seat.streams -= 1;
        if seat.streams > 0 {
            return;
        }
        if seat.is_tied && self.rejoin_grace == 0 {
            return self.remove(user, DepartureReason::Lost);
        }
        if seat.is_tied {
            seat.leaves_at = Some(time + self.rejoin_grace);
        }
        self.connect(user, false);
    }

    fn connect(&mut self, user: User, is_connected: bool) {
        let seat = self.now.seats.get_mut(user).expect("it is a member");
        if seat.disconnected == is_connected {
            seat.disconnected = !is_connected;
            self.settle_host();
        }
    }

    pub fn leave(&mut self, user: User, keep_role: bool) {
        self.remove(user, DepartureReason::Left);
        if keep_role {
            return;
        }
        if self.roles.get(user) != Some(&Role::Spectator) {
            self.roles.remove(user);
        }
        self.pass_ownership(user);
    }

    /// Kicks; what no frame shows yet of the user's writes is dropped.
    pub fn kick(&mut self, user: User) {
        self.take_back(user);
        self.remove(user, DepartureReason::Kicked);
    }

    pub fn ban(&mut self, user: User) {
        self.banned.insert(user);
        self.roles.remove(user);
        self.take_back(user);
        if self.is_member(user) {
            self.remove(user, DepartureReason::Banned);
        }
        self.pass_ownership(user);
    }

    fn take_back(&mut self, user: User) {
        let shown = self.frames.get(&self.revision).map(|it| &it.room);
        if let Some(seat) = self.now.seats.get_mut(user) {
            let framed = shown.and_then(|it| it.seats.get(user));
            let framed = framed.filter(|framed| framed.order == seat.order);
            seat.props = framed.map(|framed| framed.props.clone()).unwrap_or_default();
        }
        if let Some(shown) = shown {
            self.data_writes.retain(|it| it.writer != user);
            self.now.data = shown.data.clone();
            for DataWrite { part, write, .. } in &self.data_writes {
                apply(&mut self.now.data[*part], write);
            }
        }
    }

    fn remove(&mut self, user: User, reason: DepartureReason) {
        self.bequeath(user);
        self.now.seats.remove(user).expect("it is a member");
        self.reasons.insert(user, reason);
        self.gone.push((user, reason));
        self.settle_host();
    }

    fn first(&self, is_it: impl Fn(User, &Seat) -> bool) -> Option<User> {
        let fitting = self.now.seats.iter().filter(|(user, seat)| is_it(user, seat));
        fitting.min_by_key(|(_, seat)| seat.order).map(|(user, _)| *user)
    }

    fn pass_ownership(&mut self, former: User) {
        if self.now.owner != Some(former) {
            return;
        }
        let first = |role| self.first(|user, seat| seat.role == role && user != former);
        let next = [Role::Admin, Role::Moderator, Role::Member].into_iter().find_map(first);
        self.now.owner = next;
        if let Some(user) = next {
            self.put_role(user, Role::Owner);
        }
    }

    fn put_role(&mut self, user: User, role: Role) {
        match role {
            Role::Member => drop(self.roles.remove(user)),
            _ => drop(self.roles.insert(user, role)),
        }
        if let Some(seat) = self.now.seats.get_mut(user) {
            seat.role = role;
        }
    }

    pub fn set_role(&mut self, user: User, role: Role, record: &Shown) {
        let old = self.now.seats.get(user).map(|seat| seat.role);
        if role == Role::Owner
            && let Some(former) = self.now.owner.replace(user).filter(|former| *former != user)
        {
            self.put_role(former, Role::Admin);
        }
        self.put_role(user, role);
        if role != Role::Owner {
            self.pass_ownership(user);
        }
        match old.map(|old| (old == Role::Spectator, role == Role::Spectator)) {
            Some((true, false)) => {
                self.now.seats.get_mut(user).expect("it is a member").props = record.clone();
            }
            Some((false, true)) => {
                self.bequeath(user);
                self.now.seats.get_mut(user).expect("it is a member").props.clear();
            }
            _ => {}
        }
        self.settle_host();
    }

    pub fn can_host(&self, user: User) -> bool {
        let fits = |seat: &Seat| !seat.disconnected && seat.role != Role::Spectator;
        self.now.seats.get(user).is_some_and(fits)
    }

    /// Who hosts next: the owner, the first admin, the first moderator, the first member.
    pub fn next_host(&self, except: Option<User>) -> Option<User> {
        let can = |user| self.can_host(user) && except != Some(user);
        let first = |role| self.first(|user, seat| seat.role == role && can(user));
        let rest = || [Role::Admin, Role::Moderator, Role::Member].into_iter().find_map(first);
        self.now.owner.filter(|owner| can(owner)).or_else(rest)
    }

    fn settle_host(&mut self) {
        if !self.is_hosted {
            return;
        }
        match self.now.host {
            Some(host) if self.can_host(host) => self.heritage = None,
            _ => self.make_host(self.next_host(None)),
        }
    }

    /// Makes a user host, who takes over what the members were shown of the host before and what it
    /// has not set itself.
    pub fn make_host(&mut self, next: Option<User>) {
        if next == self.now.host {
            return;
        }
        if let Some(host) = self.now.host {
            self.bequeath(host);
        }
        self.now.host = next;
        let Some(seat) = next.and_then(|next| self.now.seats.get_mut(next)) else { return };
        if let Some((of, props)) = self.heritage.take()
            && of != seat.order
        {
            for (key, value) in props {
                seat.props.entry(key).or_insert(value);
            }
        }
    }

    fn bequeath(&mut self, user: User) {
        if self.now.host == Some(user)
            && self.heritage.is_none()
            && let Some(seat) = self.now.seats.get(user)
        {
            let props = seat.props.clone().into_iter();
            let shown = props.filter(|(key, _)| self.now.shows_of_host(key)).collect();
            self.heritage = Some((seat.order, shown));
        }
    }

    /// A write on the user or in this session. Returns whether the session takes it.
    pub fn write(&mut self, user: User, write: &PropsWrite) -> bool {
        let sends = self.sends(user);
        if sends {
            apply(&mut self.now.seats.get_mut(user).expect("it is a member").props, write);
        }
        sends
    }

    /// A write of the shared session data (0) or of the private data (1).
    pub fn write_data(&mut self, writer: User, part: usize, write: PropsWrite) {
        apply(&mut self.now.data[part], &write);
        self.data_writes.push(DataWrite { writer, part, write });
    }

    pub fn select(&mut self, propnames: Vec<String>) {
        self.now.propnames = propnames;
    }

    pub fn select_of_host(&mut self, hostprops: Vec<String>) {
        self.now.hostprops = hostprops;
    }

    pub fn reset(&mut self) {
        self.heritage = None;
        self.now.data = Default::default();
        for seat in self.now.seats.values_mut() {
            seat.props.clear();
        }
    }

    /// Users who left after one frame and up to another, and are not back in that one.
    pub fn left(&self, after: u64, to: u64) -> BTreeMap<String, DepartureReason> {
        let back = &self.frames[&to].room.seats;
        let within = self.departures.iter().filter(|(at, ..)| (after + 1..=to).contains(at));
        let left = within.filter(|(_, user, _)| !back.contains_key(user));
        left.map(|(_, user, reason)| (user.to_string(), *reason)).collect()
    }

    /// Whether a user was kicked or banned in a frame, in which nobody is to see what it wrote last.
    pub fn drops_writes_of(&self, user: &str, revision: u64) -> bool {
        let thrown_out = [DepartureReason::Kicked, DepartureReason::Banned];
        let mut departures = self.departures.iter();
        departures.any(|(at, of, why)| (*at, *of) == (revision, user) && thrown_out.contains(why))
    }

    /// What decides which keys a reader is shown: another one comes with a snapshot.
    pub fn sight(&self, room: &Room, reader: User) -> (bool, Vec<String>, Vec<String>) {
        let is_keeper = self.is_keeper(room, reader);
        let (all, of_host) = (room.propnames.clone(), room.hostprops.clone());
        match (self.is_hosted, is_keeper) {
            (false, _) => (is_keeper, all, Vec::new()),
            (true, true) => (is_keeper, all, of_host),
            (true, false) if of_host.is_empty() => (is_keeper, all, Vec::new()),
            (true, false) => (is_keeper, of_host, Vec::new()),
        }
    }

    /// The app, the owner of a room, and the host see all that there is to be seen.
    fn is_keeper(&self, room: &Room, reader: User) -> bool {
        let keeper = if self.is_hosted { room.host } else { room.owner };
        reader.is_empty() || keeper == Some(reader)
    }

    /// What a reader is to be shown of a frame.
    pub fn view(&self, frame: &Framed, reader: User, options: &DeliveryOptions) -> State {
        let Framed { room, info } = frame;
        let is_keeper = self.is_keeper(room, reader);
        let sees = |user: User, key: &String| {
            let of_host = room.host == Some(user) && room.shows_of_host(key);
            let is_shown = match (self.is_hosted, is_keeper) {
                (false, _) => room.selects(key),
                (true, true) => room.selects(key) || of_host,
                (true, false) => of_host,
            };
            let is_own = options.exclude_self && user == reader;
            is_shown && !is_own && (options.props.is_empty() || options.props.contains(key))
        };
        let member = |(user, seat): (&User, &Seat)| {
            let props = seat.props.clone().into_iter().filter(|(key, _)| sees(user, key)).collect();
            let (role, disconnected) = (seat.role, seat.disconnected);
            (user.to_string(), Member { role, disconnected, props, join_order: 0 })
        };
        let [data, private_data] = room.data.clone();
        State {
            session: Some(info.clone()),
            data,
            private_data: if is_keeper { private_data } else { Shown::new() },
            members: room.seats.iter().map(member).collect(),
        }
    }
}

impl Room {
    fn selects(&self, key: &String) -> bool {
        self.propnames.is_empty() || self.propnames.contains(key)
    }

    fn shows_of_host(&self, key: &String) -> bool {
        if self.hostprops.is_empty() { self.selects(key) } else { self.hostprops.contains(key) }
    }

    /// The members in join order, with role and whether they are shown as disconnected.
    pub fn roll(&self) -> Vec<(String, Role, bool)> {
        let mut seats: Vec<_> = self.seats.iter().collect();
        seats.sort_by_key(|(_, seat)| seat.order);
        let told = |(user, seat): (&User, &Seat)| (user.to_string(), seat.role, seat.disconnected);
        seats.into_iter().map(told).collect()
    }
}

/// Does to props what a write says.
pub fn apply(props: &mut Shown, write: &PropsWrite) {
    props.extend(write.set.iter().map(|(key, value)| (key.clone(), show(value))));
    for key in &write.remove {
        props.remove(key);
    }
}
