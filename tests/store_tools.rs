//! What people on call do with a store, tried on the real program.

mod store_tools {
    mod copies;
    mod damaged;
    mod documented;
    mod histories;
    mod looking;
    mod refusals;
    mod serving;
    mod support;
}
