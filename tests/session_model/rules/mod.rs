//! The rules one by one, each under its own words.

mod all;
mod compare;
mod history;
mod hosting;
mod judging;
mod lifecycle;
mod merge;
mod moderation;
mod passwords;
mod presence;
mod private;
mod props;
mod reads;
mod records;
mod schema;
mod seats;
