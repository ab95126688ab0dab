//! The rules one by one, each under its own words.

mod all;
mod compare;
mod history;
mod hosting;
mod lifecycle;
mod moderation;
mod presence;
mod props;
mod reads;
