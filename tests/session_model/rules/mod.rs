//! The rules one by one, each under its own words.

mod history;
mod hosting;
mod lifecycle;
mod presence;
mod props;
