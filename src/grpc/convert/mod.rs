//! Between the wire's types and the domain's. Inwards everything is checked, once, at the door;
//! outwards nothing can fail.

pub mod door;
pub mod event;
pub mod to_proto;
