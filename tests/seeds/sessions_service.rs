//! SessionsService: its routes, its loops, and the fields of its session types.

mod loops;
mod private_session_props;
mod routes;
mod shared_session_props;

use sessiond::proto::Role;
use std::collections::BTreeMap;

/// Roles by user id, as requests take them.
fn roles<const N: usize>(roles: [(&str, Role); N]) -> BTreeMap<String, i32> {
    roles.into_iter().map(|(user, role)| (user.to_owned(), role.into())).collect()
}
