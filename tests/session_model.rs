//! The rules of sessions, tried one by one under their names.

mod session_model {
    mod picture;
    mod position;
    mod rules;
    mod stage;
}
