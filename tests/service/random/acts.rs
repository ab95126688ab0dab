//! What random users do, each time with the model of the session.

use super::{
    COUNT, Ends, GRACE, KEYS, RATE_HZ, Reader, SESSIONS, Sight, USERS, World, Writer,
    model::{self, Joining, Model, User},
    template,
};
use crate::support::*;
use sessiond::proto::{
    Delivery, DeliveryOptions, DepartureReason, Encoding, EndReason, JoinOptions,
    JoinSessionRequest, Presence, PropsWrite, Role, SessionSettings, SnapshotReason,
    SubscribeToSessionRequest, Value,
};
use std::collections::BTreeMap;
use tonic::Code;

/// What users do.
impl World {
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())]
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.u32(..many) == 0
    }

    fn value(&mut self) -> Value {
        let small = self.random.i64(0..3);
        match self.random.u8(0..10) {
            0 => num(f64::NAN),
            1 => num(0.0),
            2 => num(-0.0),
            3 => text(format!("text {small}")),
            4 => list(vec![int(small), null()]),
            5 => map([("m", int(small))]),
            6 => flag(small == 0),
            _ => int(small),
        }
    }

    fn write(&mut self) -> PropsWrite {
        let mut write = PropsWrite::default();
        for key in KEYS {
            match self.random.u8(0..6) {
                0 => drop(write.set.insert(key.to_owned(), self.value())),
                1 => write.remove.push(key.to_owned()),
                _ => {}
            }
        }
        if write.set.is_empty() && write.remove.is_empty() {
            write.set.insert("a".to_owned(), self.value());
        }
        write
    }

    pub(super) fn keys(&mut self) -> Vec<String> {
        let random = &mut self.random;
        KEYS.iter().filter(|_| random.bool()).map(ToString::to_string).collect()
    }

    pub(super) fn options(&mut self, user: User) -> DeliveryOptions {
        let delivery = self.pick(&[Delivery::Latest, Delivery::All]);
        let exclude_self = !user.is_empty() && self.one_in(3);
        let in_columns = delivery == Delivery::Latest && !exclude_self && self.one_in(2);
        let encoding = if in_columns { Encoding::Columns } else { Encoding::Named };
        DeliveryOptions {
            delivery: delivery.into(),
            encoding: encoding.into(),
            props: if self.one_in(3) { self.keys() } else { Vec::new() },
            exclude_self,
            max_rate_hz: if self.one_in(4) { RATE_HZ } else { 0 },
        }
    }

    /// How a user joins, and the same for the model. A user who comes to be a spectator has no first
    /// props.
    fn joining(&mut self, session: &str, user: User, is_stream: bool) -> (JoinOptions, Joining) {
        let spectator = self.one_in(6);
        let is_tied = self.pick(&[None, Some(true), Some(false)]);
        let mut props = BTreeMap::new();
        if self.one_in(2) {
            props = self.write().set;
        }
        if self.model(session).role_on_joining(user, spectator) == Role::Spectator {
            props.clear();
        }
        let presence = match is_tied {
            None => Presence::Unspecified,
            Some(true) => Presence::Tied,
            Some(false) => Presence::Explicit,
        };
        let shown = props.iter().map(|(key, value)| (key.clone(), show(value))).collect();
        (
            JoinOptions { spectator, presence: presence.into(), props, ..Default::default() },
            Joining { spectator, is_tied, is_stream, props: shown },
        )
    }

    pub(super) fn model(&mut self, session: &str) -> &mut Model {
        self.models.get_mut(session).expect("it is open")
    }

    pub(super) async fn act(&mut self) {
        self.let_leave().await;
        self.tally.operations += 1;
        let (session, user) = (self.pick(&SESSIONS), self.pick(&USERS));
        let is_member = self.model(session).is_member(user);
        match self.random.u8(0..60) {
            0..8 => self.write_in(session, user).await,
            8..12 => {
                let write = self.write();
                self.wrote_on_user(user, &write);
                self.service.try_write(user, write).await.expect("one may write on oneself");
            }
            12..14 => {
                let writer = self.pick(&[user, ""]);
                self.write_data(session, writer).await;
            }
            14..19 | 57.. => self.join(session, user).await,
            19 if is_member => {
                let keep_role = self.random.bool();
                self.service.try_leave(session, user, keep_role).await.expect("it leaves");
                self.model(session).leave(user, keep_role);
                self.left(session, user);
                if self.random.bool() {
                    self.join(session, user).await;
                }
            }
            20 | 54..57 if is_member => {
                self.write_last(session, user).await;
                self.service.try_kick(session, "", user, "go").await.expect("the app may");
                self.model(session).kick(user);
                self.left(session, user);
                if self.random.bool() {
                    self.join(session, user).await;
                }
            }
            21 if is_member || self.one_in(4) => {
                self.write_last(session, user).await;
                self.service.try_ban(session, "", user).await.expect("the app may");
                self.model(session).ban(user);
                self.left(session, user);
            }
            21..24 if self.model(session).banned.remove(user) => {
                self.service.try_unban(session, "", user).await.expect("it was banned");
            }
            24 if !self.model(session).banned.contains(user) => {
                let roles = [Role::Owner, Role::Admin, Role::Member, Role::Spectator];
                let role = self.pick(&roles);
                self.service.set_role(session, "", user, role).await;
                let record = self.records[user].clone();
                self.model(session).set_role(user, role, &record);
            }
            25 => self.swap_host(user).await,
            26 => {
                let mut propnames = self.keys();
                // What is written up a stream can always be waited for.
                propnames.push(COUNT.to_owned());
                if self.one_in(3) {
                    propnames.clear();
                }
                let settings =
                    SessionSettings { propnames: propnames.clone(), ..Default::default() };
                self.service.update(session, "", &["propnames"], settings).await;
                self.model(session).select(propnames);
            }
            27 => {
                let hostprops = self.keys();
                let settings =
                    SessionSettings { hostprops: hostprops.clone(), ..Default::default() };
                self.service.update("hosted", "", &["hostprops"], settings).await;
                self.model("hosted").select_of_host(hostprops);
            }
            28 if self.one_in(3) => {
                self.service.try_reset(session, "", None).await.expect("the app may");
                self.model(session).reset();
                self.observe(session).await;
                let revision = self.model(session).revision;
                self.model(session).reset_at = revision;
            }
            29 if self.one_in(3) => self.delete(session, user).await,
            52 => self.pass_time().await,
            30..34 | 46..52 | 53 if self.readers.len() < 12 => self.read(session, user).await,
            34 if self.writers.len() < 4 && self.model(session).sends(user) => {
                let stream = self.service.stream(session, user).await;
                self.model(session).stream_opened(user);
                self.writers.push(Writer { session, user, stream });
            }
            35..38 if !self.writers.is_empty() => self.write_up().await,
            38..44 if !self.readers.is_empty() => {
                let at = self.random.usize(..self.readers.len());
                self.cut_and_resume(at).await;
            }
            44 if !self.readers.is_empty() => {
                let at = self.random.usize(..self.readers.len());
                let _gone = self.cut(at).await;
            }
            45 if !self.writers.is_empty() => {
                let at = self.random.usize(..self.writers.len());
                self.space_deadlines().await;
                let Writer { session, user, stream } = self.writers.swap_remove(at);
                drop(stream);
                self.was_cut(session, user).await;
            }
            // There is nothing to do it with.
            _ => self.tally.operations -= 1,
        }
    }

    async fn write_in(&mut self, session: &'static str, user: User) {
        let write = self.write();
        let is_taken = self.model(session).write(user, &write);
        let outcome = self.service.try_write(user, write.in_session(session)).await;
        assert_eq!(outcome.is_ok(), is_taken, "members write, and nobody else: {outcome:?}");
    }

    fn wrote_on_user(&mut self, user: User, write: &PropsWrite) {
        model::apply(self.records.get_mut(user).expect("it is known"), write);
        for model in self.models.values_mut() {
            model.write(user, write);
        }
    }

    /// The private part is the app's.
    async fn write_data(&mut self, session: &'static str, writer: User) {
        let write = self.write();
        let PropsWrite { set, remove, .. } = write.clone();
        let part = usize::from(writer.is_empty() && self.random.bool());
        let mut request = data_of(session, writer);
        match part {
            0 => (request.set, request.remove) = (set, remove),
            _ => (request.private_set, request.private_remove) = (set, remove),
        }
        let outcome = self.service.try_set_data(request).await;
        let is_taken = writer.is_empty() || self.model(session).sends(writer);
        assert_eq!(outcome.is_ok(), is_taken, "members write, and nobody else: {outcome:?}");
        if is_taken {
            self.model(session).write_data(writer, part, write);
        }
    }

    /// What somebody writes who is about to be thrown out.
    async fn write_last(&mut self, session: &'static str, user: User) {
        if self.random.bool() {
            self.write_in(session, user).await;
        }
        if self.random.bool() {
            self.write_data(session, user).await;
        }
        if self.one_in(3) {
            self.write_data(session, "").await;
        }
    }

    async fn join(&mut self, session: &'static str, user: User) {
        self.space_deadlines().await;
        let (join, joining) = self.joining(session, user, false);
        let outcome = self.service.try_join(session, user, join).await;
        if self.model(session).banned.contains(user) {
            refused(outcome).is(Code::PermissionDenied, "BANNED");
            return;
        }
        outcome.expect("it joins");
        self.joined(session, user, joining);
    }

    fn joined(&mut self, session: &'static str, user: User, joining: Joining) {
        let (time, record) = (self.time, self.records[user].clone());
        self.model(session).join(time, user, joining, &record);
    }

    /// The streams of memberships that are over end, with the frame that shows it.
    pub(super) fn left(&mut self, session: &'static str, user: User) {
        for (who, reason) in std::mem::take(&mut self.model(session).gone) {
            assert_eq!(who, user, "only this one has left: {reason:?}");
            let reason = match reason {
                DepartureReason::Kicked => EndReason::Kicked,
                DepartureReason::Banned => EndReason::Banned,
                _ => EndReason::Left,
            };
            self.end_streams(reason, |of, by| (of, by) == (session, user));
        }
    }

    fn end_streams(&mut self, reason: EndReason, ends: impl Fn(&str, &str) -> bool) {
        let due = self.time + 4 * TICK;
        let readers = self.readers.extract_if(.., |it| ends(it.session, it.user));
        let readers = readers.map(|it| Ends::Reader(Box::new(it.watcher)));
        self.ending.extend(readers.map(|it| (due, reason, it)));
        let writers = self.writers.extract_if(.., |it| ends(it.session, it.user));
        let writers = writers.map(|it| Ends::Writer(Box::new(it.stream)));
        self.ending.extend(writers.map(|it| (due, reason, it)));
    }

    async fn swap_host(&mut self, user: User) {
        let model = self.model("hosted");
        let host = model.now.host;
        let by_order = model.next_host(host);
        let named = model.can_host(user).then_some(user);
        let (target, next) = if self.random.bool() { ("", by_order) } else { (user, named) };
        let outcome = self.service.try_swap_host("hosted", "", target, 0).await;
        assert_eq!(outcome.is_ok(), next.is_some(), "{target:?}: {outcome:?}");
        if let Ok(reply) = outcome {
            self.model("hosted").make_host(next);
            assert_eq!(Some(&*reply.host_id), next);
        }
    }

    /// The session is gone and opened again, by the first who comes back.
    async fn delete(&mut self, session: &'static str, user: User) {
        self.service.try_delete(session, "").await.expect("the app may");
        let known = self.readers.iter().find(|it| it.session == session);
        let known = known.map(|it| it.watcher.rebuilt.again());
        self.end_streams(EndReason::Deleted, |of, _| of == session);
        let (mut join, mut joining) = (JoinOptions::default(), Joining::default());
        if self.random.bool() {
            join.props = self.write().set;
            joining.props = join.props.iter().map(|(key, it)| (key.clone(), show(it))).collect();
        }
        self.begin(session, user);
        let open_if_missing = Some(template(session));
        if self.random.bool() {
            let request = JoinSessionRequest {
                session_id: session.to_owned(),
                user_id: user.to_owned(),
                join: Some(join),
                open_if_missing,
                ..Default::default()
            };
            assert!(self.service.try_join_as(request).await.expect("it opens").opened);
            self.joined(session, user, joining);
            return self.observe(session).await;
        }
        let options = self.options(user);
        let request = SubscribeToSessionRequest {
            join: Some(join),
            open_if_missing,
            options: Some(options.clone()),
            ..subscription(session, user)
        };
        let watcher = match &known {
            Some(known) => self.service.resume(request, known).await,
            None => self.service.open_watcher(request, Rebuilt::default()).await,
        };
        joining.is_stream = true;
        self.joined(session, user, joining);
        self.model(session).stream_opened(user);
        let reason = match known {
            Some(_) => SnapshotReason::EpochChanged,
            None => SnapshotReason::First,
        };
        let step =
            self.enlist(Reader { session, user, options, sight: Sight::default(), watcher }).await;
        assert_eq!(step, Step::Snapshot(reason));
    }

    /// A session is open: nothing is known of it yet.
    pub(super) fn begin(&mut self, session: &'static str, owner: User) {
        let grace = if session == "eager" { 0 } else { GRACE };
        let mut model = Model::new(session == "hosted", grace);
        if !owner.is_empty() {
            model.owned_by(owner);
        }
        self.models.insert(session, model);
    }

    /// A stream of a member, or of one who joins by it, or of the app.
    async fn read(&mut self, session: &'static str, user: User) {
        let user = if self.one_in(6) { "" } else { user };
        let options = self.options(user);
        if let Some(watcher) = self.subscribe(session, user, &options, None).await {
            let step = self
                .enlist(Reader { session, user, options, sight: Sight::default(), watcher })
                .await;
            assert_eq!(step, Step::Snapshot(SnapshotReason::First));
        }
    }

    /// Opens a stream; a user who is not a member joins by it. None = it is banned.
    pub(super) async fn subscribe(
        &mut self,
        session: &'static str,
        user: User,
        options: &DeliveryOptions,
        known: Option<&Rebuilt>,
    ) -> Option<Watcher> {
        let mut request = SubscribeToSessionRequest {
            options: Some(options.clone()),
            ..subscription(session, user)
        };
        let joins = !user.is_empty() && (!self.model(session).is_member(user) || self.one_in(4));
        let mut how = None;
        if joins {
            let (join, joining) = self.joining(session, user, true);
            request.join = Some(join);
            how = Some(joining);
        }
        if self.model(session).banned.contains(user) {
            self.service.refused_watch(request).await.is(Code::PermissionDenied, "BANNED");
            return None;
        }
        let watcher = match known {
            Some(known) => self.service.resume(request, known).await,
            None => self.service.open_watcher(request, Rebuilt::default()).await,
        };
        if let Some(joining) = how {
            self.joined(session, user, joining);
        }
        if !user.is_empty() {
            self.model(session).stream_opened(user);
        }
        Some(watcher)
    }

    /// Takes a stream among the readers, with its first step, which is returned.
    pub(super) async fn enlist(&mut self, mut reader: Reader) -> Step {
        let before = reader.watcher.rebuilt.again();
        let step = reader.watcher.next().await;
        // The first subscription to all closes the open frame.
        self.observe(reader.session).await;
        self.check(&mut reader, &before, &step);
        self.readers.push(reader);
        step
    }

    async fn write_up(&mut self) {
        let mut write = self.write();
        self.count += 1;
        write.set.insert(COUNT.to_owned(), int(self.count));
        let at = self.random.usize(..self.writers.len());
        let Writer { session, user, .. } = self.writers[at];
        if !self.model(session).sends(user) {
            return;
        }
        if self.random.bool() {
            write = write.in_session(session);
            self.model(session).write(user, &write);
        } else {
            self.wrote_on_user(user, &write);
        }
        self.writers[at].stream.write(write);
        let count = show(&int(self.count));
        in_time(async {
            loop {
                let pending = self.service.try_updated(session, "", user, None).await;
                let change = pending.expect("it is a member").change.unwrap_or_default();
                let mut props = change.props.iter().map(show_named);
                if props.any(|(key, value)| key == COUNT && value == count) {
                    return;
                }
            }
        })
        .await;
    }
}
