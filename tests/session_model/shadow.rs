//! A session as its records tell it, which has to show what the session itself shows, to the byte.

use super::{picture::Changes, position::Position};
use sessiond::{
    engine::{
        Encoded,
        encoder::{Encoder, Snapshot, SnapshotReason, Start},
    },
    grpc::encode::Wire,
    record::{self, Entry},
    session::{
        Session,
        command::Actor,
        ids::UserId,
        limits::{Limits, Micros},
        record::{Mark, Record},
        replica::Replica,
        revision::Revision,
        settings::{Keys, Setting},
        view::View,
    },
};
use std::sync::Arc;

/// A replica that is fed by records, each of them written and read again.
pub struct Shadow {
    limits: Arc<Limits>,
    /// None = it begins with the next record.
    replica: Option<Replica>,
    /// Up to where the records lead that it has been given.
    fed: Option<Mark>,
    /// It is fed once in so many times.
    every: usize,
    times: usize,
    /// What was compared last.
    compared: Option<Mark>,
    /// Instead of being fed it begins again with a snapshot, once in so many times; the next record
    /// overlaps that snapshot. 0 = never.
    begins_at_every: usize,
}

impl Shadow {
    /// One of each sort.
    pub fn all(limits: &Limits) -> Vec<Self> {
        let new = |every, begins_at_every| Self {
            limits: Arc::new(limits.clone()),
            replica: None,
            fed: None,
            every,
            times: 0,
            compared: None,
            begins_at_every,
        };
        vec![new(1, 0), new(3, 0), new(2, 3)]
    }

    /// Nothing is open in the session: whoever has its turn is fed, and then compared.
    pub fn follow(&mut self, session: &Session, views: &[View], now: Micros) {
        self.times += 1;
        let snapshot = || session.snapshot().expect("nothing is open");
        if self.begins_at_every > 0 && self.times.is_multiple_of(self.every * self.begins_at_every)
        {
            // Somewhere between two records.
            self.replica = Some(begin(snapshot(), &self.limits));
            return self.compare(session, views, now);
        }
        if !self.times.is_multiple_of(self.every) {
            return;
        }
        let record = match &self.fed {
            Some(mark) => session.record_since(mark).expect("nothing is open"),
            None => snapshot(),
        };
        self.fed = Some(record.until);
        let replica = match self.replica.take() {
            Some(replica) => replica.apply(read(record)).expect("the record fits"),
            None => begin(record, &self.limits),
        };
        self.replica = Some(replica);
        self.compare(session, views, now);
    }

    fn compare(&mut self, session: &Session, views: &[View], now: Micros) {
        let shadow = self.replica.as_deref().expect("it has begun");
        same(session, shadow, now);
        let mark = session.mark();
        if self.compared.replace(mark).is_none_or(|last| last.revision < mark.revision) {
            views.iter().for_each(|view| same_view(session, shadow, view));
        }
    }

    /// An earlier incarnation is over: the next one begins with a snapshot.
    pub fn start_anew(&mut self) {
        (self.replica, self.compared) = (None, None);
    }
}

/// The story is over: who takes the session over from its records goes on like its owner.
pub fn take_over(session: &mut Session, limits: &Limits, views: &[View], now: Micros) {
    let mut heir = begin(session.snapshot().unwrap(), &Arc::new(limits.clone())).promote(now);
    if heir.has_ended() {
        // What was due and unnoticed is not put off.
        session.pass_time(now);
        return assert!(session.has_ended());
    }
    let from = session.revision();
    // What waits for a frame is shown when it is selected.
    for session in [&mut *session, &mut heir] {
        let all = vec![Setting::Propnames(Keys::default()), Setting::Hostprops(Keys::default())];
        let update = sessiond::session::command::Command::Update(all);
        session.apply(now, &Actor::App, update).unwrap();
        session.flush(now).expect("something is open");
    }
    for view in views {
        let changes = |session: &Session| {
            let mut changes = Changes::after(session, view, from);
            changes.members.sort_by(|(a, _), (b, _)| a.cmp(b));
            changes
        };
        assert_eq!(changes(&heir), changes(session), "{view:?}");
        assert_eq!(heir.fingerprint(view, None), session.fingerprint(view, None));
    }
}

/// Written and read again.
fn read(record: Record) -> Record {
    let entry = Entry::Session(Box::new(record));
    match record::decode(&record::encode(&entry)) {
        Ok(read) => {
            assert_eq!(read, entry);
            let Entry::Session(record) = read else { unreachable!("it is the same") };
            *record
        }
        Err(why) => panic!("{why}: {entry:?}"),
    }
}

pub fn begin(snapshot: Record, limits: &Arc<Limits>) -> Replica {
    Replica::begin(read(snapshot), limits.clone()).expect("the snapshot fits")
}

/// Whatever can be asked is answered alike.
fn same(session: &Session, shadow: &Session, now: Micros) {
    let position = |it: &Session| {
        (it.epoch(), it.revision(), it.horizon(), it.reset_revision(), it.last_frame_at())
    };
    assert_eq!(position(shadow), position(session));
    assert_eq!(shadow.info(), session.info());
    assert_eq!(shadow.accepted_info(), session.info());
    assert_eq!((shadow.has_ended(), shadow.is_open()), (session.has_ended(), false));
    assert_eq!(shadow.mark(), session.mark());
    assert_eq!(shadow.bans(now, &Actor::App), session.bans(now, &Actor::App));
    assert_eq!((shadow.seats(), shadow.shown_seats()), (session.seats(), session.shown_seats()));
    assert_eq!(shadow.members().counts(), session.members().counts());
    assert_eq!(shadow.members().shown_counts(), session.members().shown_counts());
    let joined = |it: &Session| {
        let joined = it.members().joined().map(|(_, user, membership)| {
            let mut membership = membership.clone();
            // They are those of the owner.
            membership.streams = 0;
            format!("{user} {membership:?}")
        });
        joined.collect::<Vec<_>>()
    };
    assert_eq!(joined(shadow), joined(session));
    for user in super::steps::USERS.map(|user| UserId::new(user).unwrap()) {
        let actor = Actor::of(&user);
        assert_eq!(shadow.standing(&actor), session.standing(&actor), "{user}");
        assert_eq!(shadow.is_visible_to(&actor), session.is_visible_to(&actor), "{user}");
        let join = sessiond::session::command::Join::default();
        let check = |it: &Session| it.check_join(now, &user, &join);
        assert_eq!(check(shadow), check(session), "{user}");
        let password = |it: &Session| it.password_for(now, &user, &join).map(|hash| hash.cloned());
        assert_eq!(password(shadow), password(session), "{user}");
    }
    // Nobody listened to the updates of another owner: all of them are a gap.
    assert_eq!(shadow.log_start(), session.revision());
    assert_eq!(shadow.logged_after(Revision::NONE).count(), 0);
    // A record of the shadow is one of the session, but for what waits for a frame.
    let record =
        |it: &Session| it.snapshot().map(|record| Record { waiting: Vec::new(), ..record });
    assert_eq!(record(shadow), record(session));
}

fn same_view(session: &Session, shadow: &Session, view: &View) {
    let first = Snapshot::new(SnapshotReason::First);
    let snapshot = |it: &Session| bytes(Some(Wire::default().snapshot(it, view, first, None)));
    assert_eq!(snapshot(shadow), snapshot(session), "{view:?}");
    assert_eq!(shadow.fingerprint(view, None), session.fingerprint(view, None));
    let (last, fingerprint) = (session.revision().0, session.fingerprint(view, None));
    // The nearest ones, and some further back.
    let revisions = (0..=last + 1).filter(|at| at + 2 > last || (at + last).is_multiple_of(5));
    for revision in revisions.map(Revision) {
        let at = Position { epoch: session.epoch(), revision, fingerprint };
        assert_eq!(at.resume(shadow, view), at.resume(session, view), "{view:?} from {revision}");
        let departed = |it: &Session| Changes::departures_after(it, revision);
        assert_eq!(departed(shadow), departed(session), "from {revision}");
        for user in super::steps::USERS {
            let news = |it: &Session| Changes::of_member_after(it, view, user, revision);
            assert_eq!(news(shadow), news(session), "{view:?} of {user} from {revision}");
        }
        if at.resume(session, view).is_err() {
            continue;
        }
        let start = Start::at(revision);
        let changes = |it: &Session| bytes(Wire::default().changes(it, view, start, false));
        assert_eq!(changes(shadow), changes(session), "{view:?} from {revision}");
        let columns = |it: &Session| bytes(Wire::default().columns(it, view, start));
        assert_eq!(columns(shadow), columns(session), "{view:?} from {revision} in columns");
    }
}

fn bytes(encoded: Option<Encoded>) -> Vec<Vec<u8>> {
    let messages = encoded.map(|encoded| encoded.messages).unwrap_or_default();
    messages.into_iter().map(|message| message.bytes.to_vec()).collect()
}
