#![no_main]

mod memory;

libfuzzer_sys::fuzz_target!(|data: &[u8]| memory::bounded(data, sessiond_fuzz::columns::run));
