#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatewatch::fuzz::snapshot(data));
