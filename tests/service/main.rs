//! The service as its clients meet it: over gRPC, on a clock that the tests step.

mod support;

mod canary;
mod connections;
mod drain;
mod errors;
mod exclusive;
mod health_reflection;
mod hosted;
mod lifecycle;
mod limits;
mod listing;
mod merge;
mod min_position;
mod moderation;
mod newest;
mod not_yet;
mod open_if_missing;
mod opening;
mod permissions;
mod presence;
mod private;
mod props;
mod random;
mod rate;
mod reads;
mod receive;
mod replay;
mod resume;
mod roles;
mod rooms;
mod schema;
mod settings;
mod several;
mod stream_user_props;
mod transmit;
