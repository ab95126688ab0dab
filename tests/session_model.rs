//! The rules of sessions, tried against a model so plain that it can be read as their definition,
//! and one by one under the names of the rules.

mod session_model {
    mod formats;
    mod framed;
    mod invariants;
    mod listener;
    mod lockstep;
    mod model;
    mod people;
    mod picture;
    mod position;
    mod properties;
    mod rules;
    mod shadow;
    mod stage;
    mod steps;
    mod subscriber;
}
