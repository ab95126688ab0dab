//! What may happen, at random.

use super::people::{Place, places};
use proptest::{collection, prelude::*, sample};
use sessiond::session::{
    ids::{Key, UserId},
    limits::{Limits, Micros, SECOND},
    password::PasswordHash,
    role::Role,
    schema::{Field, Fields, Schema, Type},
    settings::{Keys, Kind, Presence, Setting, Settings},
    value::Value,
};
use std::sync::Arc;

pub const USERS: [&str; 4] = ["ada", "ben", "cleo", "dan"];
pub const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// More than a story has.
pub const MANY_UPDATES: usize = 100_000;

/// Where a run begins: small limits, so that they are met.
#[derive(Debug, Clone)]
pub struct Start {
    pub kind: Kind,
    pub limits: Limits,
    pub settings: Settings,
    pub schema: Option<Arc<Schema>>,
    /// Opens and joins; none = the app opens.
    pub opener: Option<UserId>,
    /// Who else is known, if there is room.
    pub places: Vec<(UserId, Place)>,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Step {
    Join {
        user: UserId,
        spectator: bool,
        presence: Option<Presence>,
        /// A stream joins, and stays open.
        is_stream: bool,
        set: Vec<(Key, Put)>,
        /// Which password the user has given.
        proven: Option<u8>,
    },
    Leave {
        user: UserId,
        keep_role: bool,
    },
    SetProps {
        who: Who,
        user: UserId,
        write: Puts,
        term: Term,
    },
    /// A key is set to what the last frame shows.
    Restore {
        user: UserId,
        key: Key,
    },
    SetOnUser {
        user: UserId,
        write: Puts,
    },
    SetData {
        who: Who,
        shared: Puts,
        private: Puts,
        term: Term,
    },
    Update {
        who: Who,
        changes: Vec<Setting>,
    },
    /// A write of props, or of shared data, that compares a key first.
    Compare {
        user: UserId,
        of_data: bool,
        key: Key,
        /// With the value as of how many frames ago; 3 = it must not be there.
        behind: u64,
        write: Puts,
    },
    SetRole {
        who: Who,
        target: UserId,
        role: Role,
    },
    Kick {
        who: Who,
        target: UserId,
    },
    Ban {
        who: Who,
        target: UserId,
        /// None = for ever.
        span: Option<Micros>,
    },
    Unban {
        who: Who,
        target: UserId,
    },
    Reserve {
        who: Who,
        users: Vec<UserId>,
        span: Micros,
    },
    Release {
        who: Who,
        users: Vec<UserId>,
    },
    SwapHost {
        who: Who,
        target: Option<UserId>,
        term: Term,
    },
    /// Somebody comes to listen to every write, if nobody does.
    Listen,
    /// The selection of keys becomes what the last frame shows.
    RestoreSelection,
    /// All values go back to where they begin.
    Reset {
        who: Who,
        schema: Option<Arc<Schema>>,
    },
    Delete {
        who: Who,
    },
    OpenStream {
        user: UserId,
    },
    CloseStream {
        user: UserId,
        lost: bool,
        /// It belonged to a membership that is over.
        is_old: bool,
    },
    /// A stream of the host is lost.
    LoseHost,
    /// Time passes; unless `unnoticed`, what is due is done.
    Pass {
        by: Micros,
        unnoticed: bool,
    },
    /// The tick; by its bit in `asleep` a subscriber takes part in it or not.
    Flush {
        asleep: u16,
        from_everywhere: bool,
    },
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Who {
    App,
    /// The user that it is about, or else the one named.
    Oneself(UserId),
    Other(UserId),
}

/// A value to write.
#[derive(Debug, Clone)]
pub enum Put {
    /// One of few, so that values return.
    Usual(Value),
    /// A text that is never written again and says whose it is.
    Fresh,
}

/// Keys to set and keys to remove.
#[derive(Debug, Clone, Default)]
pub struct Puts {
    pub set: Vec<(Key, Put)>,
    pub remove: Vec<Key>,
}

/// Which term a write names.
#[derive(Debug, Clone, Copy)]
pub enum Term {
    Any,
    Current,
    Older,
    Newer,
}

pub fn user() -> impl Strategy<Value = UserId> {
    sample::select(&USERS[..]).prop_map(|user| UserId::new(user).unwrap())
}

/// A session of a kind; what is not set here can be anything.
pub fn start(kind: Kind) -> impl Strategy<Value = Start> {
    let limits = (
        sample::select(vec![2_usize, 3, 8, 8]),
        sample::select(vec![1_usize, 2]),
        sample::select(vec![0_usize, 1, 1, 2, 3, 6, 1000]),
        sample::select(vec![3 * SECOND, 300 * SECOND]),
        sample::select(vec![3_usize, 12, MANY_UPDATES, MANY_UPDATES]),
        sample::select(vec![0_usize, 2, 256]),
    );
    let limits = limits.prop_map(
        |(props_per_user, members, removals, removal_memory, log_updates, notes)| Limits {
            props_per_user,
            members,
            removals,
            removal_memory,
            log_updates,
            notes,
            ..Limits::default()
        },
    );
    let opener = prop_oneof![1 => Just(None), 5 => user().prop_map(Some)];
    let schema = prop_oneof![3 => Just(None), 1 => schema().prop_map(Some)];
    let changes = collection::vec(setting(), 0..6);
    (limits, changes, opener, schema, places()).prop_map(
        move |(limits, changes, opener, schema, places)| Start {
            kind,
            // What the keys of a format are bounded by is checked at the door.
            schema: schema.filter(|_| limits.props_per_user >= KEYS.len()),
            limits,
            settings: changes.into_iter().fold(quiet(), |mut settings, change| {
                settings.change(change);
                settings
            }),
            opener,
            places,
        },
    )
}

/// Settings under which a session does not end soon.
fn quiet() -> Settings {
    Settings { empty_ttl: 100 * SECOND, ..Settings::new(10_000, 4) }
}

/// Anything.
pub fn step() -> impl Strategy<Value = Step> {
    let mostly = |weight: f64| proptest::bool::weighted(weight);
    prop_oneof![
        12 => join(),
        5 => leave(),
        20 => set_props(),
        5 => (user(), key()).prop_map(|(user, key)| Step::Restore { user, key }),
        10 => (user(), write()).prop_map(|(user, write)| Step::SetOnUser { user, write }),
        10 => set_data(),
        6 => (who(), collection::vec(setting(), 1..3))
            .prop_map(|(who, changes)| Step::Update { who, changes }),
        4 => Just(Step::RestoreSelection),
        5 => Just(Step::Listen),
        1 => who().prop_map(|who| Step::Delete { who }),
        3 => reset(),
        8 => user().prop_map(|user| Step::OpenStream { user }),
        8 => (user(), mostly(0.8), mostly(0.1))
            .prop_map(|(user, lost, is_old)| Step::CloseStream { user, lost, is_old }),
        4 => Just(Step::LoseHost),
        8 => pass(),
        30 => flush(),
        6 => compare(),
        15 => moderation(),
        3 => swap_host(),
        6 => seats(),
    ]
}

/// Places are held and given back.
fn seats() -> impl Strategy<Value = Step> {
    let users = || {
        let users = sample::subsequence(&USERS[..], 1..3);
        users.prop_map(|users| users.into_iter().map(|it| UserId::new(it).unwrap()).collect())
    };
    let span = sample::select(vec![SECOND, 10 * SECOND, 60 * SECOND]);
    prop_oneof![
        4 => (who(), users(), span)
            .prop_map(|(who, users, span)| Step::Reserve { who, users, span }),
        1 => (who(), users()).prop_map(|(who, users)| Step::Release { who, users }),
    ]
}

/// Who stands above whom.
fn moderation() -> impl Strategy<Value = Step> {
    let role = prop_oneof![
        2 => Just(Role::Spectator),
        2 => Just(Role::Member),
        2 => Just(Role::Moderator),
        2 => Just(Role::Admin),
        1 => Just(Role::Owner),
    ];
    let span = sample::select(vec![None, Some(SECOND), Some(20 * SECOND)]);
    prop_oneof![
        4 => (who(), user(), role)
            .prop_map(|(who, target, role)| Step::SetRole { who, target, role }),
        2 => (who(), user()).prop_map(|(who, target)| Step::Kick { who, target }),
        2 => (who(), user(), span)
            .prop_map(|(who, target, span)| Step::Ban { who, target, span }),
        3 => (who(), user()).prop_map(|(who, target)| Step::Unban { who, target }),
    ]
}

fn swap_host() -> impl Strategy<Value = Step> {
    let target = prop_oneof![1 => Just(None), 2 => user().prop_map(Some)];
    (who(), target, term()).prop_map(|(who, target, term)| Step::SwapHost { who, target, term })
}

fn compare() -> impl Strategy<Value = Step> {
    (user(), any::<bool>(), key(), 0_u64..4, write()).prop_map(
        |(user, of_data, key, behind, write)| Step::Compare { user, of_data, key, behind, write },
    )
}

/// What hosting depends on.
pub fn hosting_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => join(),
        1 => leave(),
        3 => set_props(),
        2 => user().prop_map(|user| Step::OpenStream { user }),
        4 => Just(Step::LoseHost),
        2 => hosting_setting()
            .prop_map(|change| Step::Update { who: Who::App, changes: vec![change] }),
        2 => pass(),
        3 => flush(),
        1 => Just(Step::Listen),
        1 => moderation(),
        2 => swap_host(),
        1 => reset(),
    ]
}

fn reset() -> impl Strategy<Value = Step> {
    let schema = prop_oneof![2 => Just(None), 1 => schema().prop_map(Some)];
    (who(), schema).prop_map(|(who, schema)| Step::Reset { who, schema })
}

/// A format in which `a` is text, as everything begins with that; defaults tell whose they are.
fn schema() -> impl Strategy<Value = Arc<Schema>> {
    let part = |whose: &'static str| {
        let default = prop_oneof![
            2 => Just(None),
            1 => Just(Some(Value::Text(whose.into()))),
            1 => Just(Some(Value::Text("".into()))),
        ];
        let text = default.prop_map(|default| Field { default, ..Field::new(Type::Text) });
        let number = sample::select(vec![None, Some(Value::Integer(0)), Some(Value::Integer(1))])
            .prop_map(|default| Field { default, ..Field::new(Type::Number) });
        let any = sample::select(vec![None, None, Some(Value::Null)])
            .prop_map(|default| Field { default, ..Field::new(Type::Any) });
        let writer =
            sample::select(vec![None, None, None, Some(Role::Member), Some(Role::Moderator)]);
        let other = (prop_oneof![1 => text.clone(), 1 => number, 3 => any], writer)
            .prop_map(|(field, writer)| Field { writer, ..field });
        let others = collection::btree_map(key(), other, 1..5);
        (text, others).prop_map(|(text, mut fields)| {
            fields.insert("a".into(), text);
            fields.into_iter().collect::<Fields>()
        })
    };
    (part("/default"), part("data/default"), part("private/default"))
        .prop_map(|(props, data, private_data)| Arc::new(Schema { props, data, private_data }))
}

/// Somebody joins.
pub fn join() -> impl Strategy<Value = Step> {
    let proven = sample::select(vec![None, Some(1), Some(2)]);
    (user(), any::<u8>(), presence(), any::<bool>(), puts(0..3), proven).prop_map(
        |(user, dice, presence, is_stream, set, proven)| Step::Join {
            user,
            spectator: dice < 50,
            presence,
            is_stream,
            set,
            proven,
        },
    )
}

fn leave() -> impl Strategy<Value = Step> {
    let keep_role = proptest::bool::weighted(0.3);
    (user(), keep_role).prop_map(|(user, keep_role)| Step::Leave { user, keep_role })
}

fn set_props() -> impl Strategy<Value = Step> {
    (who(), user(), write(), term()).prop_map(|(who, user, write, term)| Step::SetProps {
        who,
        user,
        write,
        term,
    })
}

fn pass() -> impl Strategy<Value = Step> {
    let unnoticed = proptest::bool::weighted(0.2);
    (span(), unnoticed).prop_map(|(by, unnoticed)| Step::Pass { by, unnoticed })
}

fn flush() -> impl Strategy<Value = Step> {
    let from_everywhere = proptest::bool::weighted(0.15);
    (any::<u16>(), any::<u16>(), from_everywhere)
        .prop_map(|(a, b, from_everywhere)| Step::Flush { asleep: a & b, from_everywhere })
}

fn set_data() -> impl Strategy<Value = Step> {
    let part = || prop_oneof![1 => Just(Puts::default()), 2 => write()];
    (who(), part(), part(), term()).prop_filter_map(
        "a write names a key",
        |(who, shared, private, term)| {
            let empty = |puts: &Puts| puts.set.is_empty() && puts.remove.is_empty();
            let names_a_key = !(empty(&shared) && empty(&private));
            names_a_key.then_some(Step::SetData { who, shared, private, term })
        },
    )
}

fn setting() -> impl Strategy<Value = Setting> {
    prop_oneof![
        3 => keys().prop_map(Setting::Propnames),
        3 => keys().prop_map(Setting::Hostprops),
        1 => sample::select(vec![None, Some("n"), Some("m")])
            .prop_map(|name| Setting::Name(name.map(Into::into))),
        1 => (1_usize..5).prop_map(Setting::Capacity),
        1 => proptest::bool::weighted(0.3).prop_map(Setting::Locked),
        1 => any::<bool>().prop_map(Setting::Unlisted),
        1 => (key(), 0_i64..2)
            .prop_map(|(key, number)| Setting::Metadata([(key, Value::Integer(number))].into())),
        7 => hosting_setting(),
        2 => sample::select(vec![0, 10 * SECOND, 100 * SECOND]).prop_map(Setting::EmptyTtl),
        1 => sample::select(vec![0, 0, 200 * SECOND]).prop_map(Setting::MaxAge),
        1 => sample::select(vec![Role::Member, Role::Moderator, Role::Owner])
            .prop_map(Setting::DataRole),
        1 => sample::select(vec![None, None, Some(1), Some(2)])
            .prop_map(|number| Setting::Password(number.map(password))),
        1 => sample::select(vec![Role::Member, Role::Admin]).prop_map(Setting::ResetRole),
    ]
}

/// One of few passwords, as the session knows it.
pub fn password(number: u8) -> PasswordHash {
    PasswordHash::new(&[number])
}

fn hosting_setting() -> impl Strategy<Value = Setting> {
    prop_oneof![
        1 => collection::vec(user(), 0..3).prop_map(|users| Setting::Successors(users.into())),
        2 => sample::select(vec![0, 2 * SECOND, 25 * SECOND]).prop_map(Setting::HostGrace),
        1 => any::<bool>().prop_map(Setting::InheritHostData),
        2 => sample::select(vec![0, 4 * SECOND, 45 * SECOND]).prop_map(Setting::RejoinGrace),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        5 => user().prop_map(Who::Oneself),
        2 => Just(Who::App),
        1 => user().prop_map(Who::Other),
    ]
}

fn presence() -> impl Strategy<Value = Option<Presence>> {
    sample::select(vec![None, None, Some(Presence::Tied), Some(Presence::Explicit)])
}

fn term() -> impl Strategy<Value = Term> {
    sample::select(vec![
        Term::Any,
        Term::Any,
        Term::Any,
        Term::Any,
        Term::Current,
        Term::Older,
        Term::Newer,
    ])
}

fn span() -> impl Strategy<Value = Micros> {
    sample::select(vec![1000, 1000, 10_000, SECOND, SECOND, 3 * SECOND, 16 * SECOND, 61 * SECOND])
}

fn key() -> impl Strategy<Value = Key> {
    sample::select(&KEYS[..]).prop_map(Key::from)
}

fn keys() -> impl Strategy<Value = Keys> {
    let some = sample::subsequence(&KEYS[..], 0..4);
    some.prop_map(|keys| Keys::new(keys.into_iter().map(Key::from).collect()))
}

fn put() -> impl Strategy<Value = Put> {
    let usual = vec![
        Value::Null,
        Value::Flag(false),
        Value::Integer(0),
        Value::Integer(1),
        Value::Number(f64::NAN),
        Value::Text("".into()),
    ];
    prop_oneof![1 => sample::select(usual).prop_map(Put::Usual), 1 => Just(Put::Fresh)]
}

fn puts(how_many: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(Key, Put)>> {
    collection::btree_map(key(), put(), how_many).prop_map(|puts| puts.into_iter().collect())
}

fn write() -> impl Strategy<Value = Puts> {
    let removal = prop_oneof![3 => put().prop_map(Some), 2 => Just(None)];
    collection::btree_map(key(), removal, 1..4).prop_map(|puts| {
        let mut write = Puts::default();
        for (key, put) in puts {
            match put {
                Some(put) => write.set.push((key, put)),
                None => write.remove.push(key),
            }
        }
        write
    })
}
