//! Between nodes.

pub mod introduction;
