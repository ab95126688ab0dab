//! SessionsService: its 22 routes, its three loops, and the fields of its session types.

mod loops;
mod object_streams;
mod private_session_props;
mod routes;
mod session_user;
mod shared_session_props;

use crate::support::BEGIN;
use sessiond::proto::Role;
use std::collections::BTreeMap;

/// Roles by user id, as requests take them.
fn roles<const N: usize>(roles: [(&str, Role); N]) -> BTreeMap<String, i32> {
    roles.into_iter().map(|(user, role)| (user.to_owned(), role.into())).collect()
}

/// When something was, in microseconds since the clock began.
fn micros(moment: Option<prost_types::Timestamp>) -> u64 {
    let moment = moment.expect("it is told");
    moment.seconds as u64 * 1_000_000 + moment.nanos as u64 / 1000 - BEGIN
}
