//! What is written of sessions: every version that there ever was is read, and damage is seen.

mod batch;
mod damage;
mod entries;
mod golden;
mod streams;
