//! The service as its clients meet it: over gRPC, on a clock that the tests step.

mod support;

mod hosted;
mod props;
mod resume;
mod rooms;
mod stream_user_props;
