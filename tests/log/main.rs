//! The log: what every implementation promises, and what the one on a disk does when that fails.

mod bad_input;
mod contract;
mod faults;
mod faulty;
mod jetstream;
mod measure;
mod space;
mod support;
