//! Sessions that outlive their process: what is shown before it is stored and what is not, and what is
//! there after a crash and after a stop. The log is in memory, and the test decides when it stores.

mod ahead;
mod full;
mod gate;
mod large;
mod restart;
mod stage;
