//! Who calls: every good credential is accepted, every other one refused.

mod api_keys;
mod attacks;
mod certificates;
mod claims;
mod command_line;
mod measure;
mod random;
mod reloading;
mod revocations;
mod settings;
mod support;
mod urls;
mod valid;
mod vectors;
