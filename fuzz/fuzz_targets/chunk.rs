#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| watchfire_fuzz::chunk(data));
