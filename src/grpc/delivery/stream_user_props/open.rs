//! How a stream opens: all of its subscriptions are had, or none.

use super::{
    Open,
    down::{Down, Unheard},
};
use crate::{
    engine::Peer,
    grpc::{
        convert::door::Door,
        delivery::{
            Server,
            bundle::Bundle,
            feed::{Feed, Timer},
            opening::Proofs,
            subscribe::Wanted,
        },
        new_user_id,
        passwords::Claim,
    },
    proto,
    session::{
        command::Actor,
        error::Refusal,
        ids::{AppId, UserId},
        limits::{Micros, SECOND},
    },
};
use http::HeaderMap;
use std::collections::HashSet;

/// How many sessions a stream may subscribe to.
const SUBSCRIPTIONS: usize = 64;

/// Opens a stream, or refuses to, and names every fault.
pub fn open(
    server: &Server,
    headers: &HeaderMap,
    open: proto::StreamOpen,
    proofs: &Proofs,
) -> Result<Open, Refusal> {
    let proto::StreamOpen { app, user_id, subscriptions, silence_timeout } = open;
    let mut door = Door::new(&server.limits);
    let app = door.app_in("open.app", &app);
    let range = (SECOND, 3600 * SECOND);
    let silence =
        silence_timeout.map(|span| door.span("open.silence_timeout", Some(span), range, SECOND));
    let joins = !subscriptions.is_empty() && subscriptions.iter().all(|it| it.join.is_some());
    let user = match door.optional_user("open.user_id", &user_id) {
        Some(user) => user,
        None => {
            if user_id.is_empty() && !joins {
                let text = match subscriptions.len() {
                    0 | 1 => "must be given where no subscription joins",
                    _ => "must be given unless every subscription joins",
                };
                door.fault("open.user_id", text);
            }
            new_user_id()
        }
    };
    let wanted = wanted(&mut door, &user, subscriptions);
    door.close()?;
    server.check_app(headers, &app)?;
    let actor = Actor::User(user.clone());
    let down = match <[_; 1]>::try_from(wanted) {
        Ok([(handle, only)]) => {
            let (feed, _) = only.proven(proofs)?.feed(server, &app)?;
            Down::One(Box::new(feed), handle)
        }
        Err(none) if none.is_empty() => Down::Nothing(Unheard::new(server)),
        Err(several) => Down::Several(subscribe_to_all(server, &app, &user, several, proofs)?),
    };
    let user = server.engine.user_stream(&app, &user)?;
    let now = server.engine.clock().now();
    Ok(Open {
        user_id: Some(user.user.to_string()),
        user,
        actor,
        down,
        timer: Timer::new(server),
        silence,
        silent_at: silence.map_or(Micros::MAX, |silence| now + silence),
    })
}

/// The passwords in an opening message that passes the door.
pub fn claims(
    server: &Server,
    headers: &HeaderMap,
    open: proto::StreamOpen,
    peer: Peer,
) -> Vec<Claim> {
    let mut door = Door::new(&server.limits);
    let app = door.app_in("open.app", &open.app);
    let user = match &*open.user_id {
        "" => Some(new_user_id()),
        user => door.user("open.user_id", user),
    };
    let Some(user) = user else { return Vec::new() };
    let wanted = wanted(&mut door, &user, open.subscriptions);
    let passes = door.close().and_then(|()| server.check_app(headers, &app));
    let claims = wanted.into_iter().filter_map(|(_, wanted)| wanted.claim(&app, peer));
    if passes.is_ok() { claims.collect() } else { Vec::new() }
}

/// Checks the subscriptions of a stream; returns each with the client's number for it.
fn wanted(
    door: &mut Door<'_>,
    user: &UserId,
    subscriptions: Vec<proto::SessionSubscription>,
) -> Vec<(u32, Wanted)> {
    let count = subscriptions.len();
    if count > SUBSCRIPTIONS {
        let text = format!("has {count} entries, more than {SUBSCRIPTIONS}");
        door.fault("open.subscriptions", text);
        return Vec::new();
    }
    let mut handles = HashSet::new();
    let mut sessions = HashSet::new();
    let one = |(at, wanted): (usize, proto::SessionSubscription)| {
        let proto::SessionSubscription { handle, session_id, join, options, resume, .. } = wanted;
        let prefix = format!("open.subscriptions[{at}].");
        if count > 1 && handle == 0 {
            door.fault(format!("{prefix}handle"), "must be given where there are several");
        } else if !handles.insert(handle) {
            door.fault(format!("{prefix}handle"), "is used twice");
        }
        if !session_id.is_empty() && !sessions.insert(session_id.clone()) {
            door.fault(format!("{prefix}session_id"), "is subscribed to twice");
        }
        let user = ("open.user_id", &**user);
        (handle, Wanted::new(door, &prefix, user, session_id, join, options, resume))
    };
    subscriptions.into_iter().enumerate().map(one).collect()
}

/// Subscribes to several sessions, or to none: everything that can be checked is checked before
/// anything is done, and if a join is refused all the same, what was joined before it is left again.
fn subscribe_to_all(
    server: &Server,
    app: &AppId,
    user: &UserId,
    wanted: Vec<(u32, Wanted)>,
    proofs: &Proofs,
) -> Result<Box<Bundle>, Refusal> {
    let engine = &server.engine;
    let named = |at: usize| {
        move |refusal| {
            let field = format!("open.subscriptions[{at}]");
            Refusal::Subscription { field, refusal: Box::new(refusal) }
        }
    };
    let mut places = Vec::with_capacity(wanted.len());
    let mut new = 0;
    for (at, (handle, wanted)) in wanted.into_iter().enumerate() {
        let wanted = wanted.proven(proofs).map_err(named(at))?;
        let found = wanted.find(server, app).and_then(|live| {
            let checked = engine.check_subscribe(&live, user, wanted.join(), new);
            let is_new = checked.map_err(|refusal| refusal.within(wanted.prefix()))?;
            new += usize::from(is_new);
            Ok((live, is_new))
        });
        let (live, is_new) = found.map_err(named(at))?;
        places.push((at, handle, wanted, live, is_new));
    }
    // Joining again and moving cannot be taken back: they come when nothing else is likely to be
    // refused.
    places.sort_by_key(|(_, _, wanted, _, is_new)| {
        (wanted.join().is_some_and(|join| join.moves), !is_new)
    });
    let joins = places.iter_mut().filter_map(|(at, _, wanted, live, _)| {
        wanted.take_join().map(|join| (*at, wanted.prefix().to_owned(), live.clone(), join))
    });
    let (named_joins, joins): (Vec<_>, Vec<_>) =
        joins.map(|(at, prefix, live, join)| ((at, prefix), (live, join))).unzip();
    let joined = engine.join_all(user, joins).map_err(|(which, refusal)| {
        let (at, prefix) = &named_joins[which];
        named(*at)(refusal.within(prefix))
    })?;
    let mut feeds: Vec<(usize, u32, Feed)> = Vec::with_capacity(places.len());
    for (at, handle, wanted, ..) in places {
        match wanted.feed(server, app) {
            Ok((feed, _)) => feeds.push((at, handle, feed)),
            Err(refusal) => {
                feeds.iter_mut().for_each(|(_, _, feed)| feed.ended_by_server());
                drop(feeds);
                engine.leave_again(user, joined);
                return Err(named(at)(refusal));
            }
        }
    }
    let mut bundle = Box::new(Bundle::new(server));
    feeds.sort_by_key(|(at, ..)| *at);
    for (at, handle, feed) in feeds {
        bundle.add(at, feed, handle, None);
    }
    Ok(bundle)
}
