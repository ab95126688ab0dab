//! Who is alive and who owns what: the decisions by thousands of random courses, the rest over a real
//! server of NATS.

mod course;
mod courses;
mod handing;
mod joined;
#[allow(dead_code)]
#[path = "../support/nats.rs"]
mod nats;
mod notes;
mod right;
#[allow(dead_code)]
#[path = "../chaos/server.rs"]
mod server;
