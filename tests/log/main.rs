//! The log: what every implementation promises.

mod contract;
mod support;
