#![no_main]
//! Headers by which a request overrides its route.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tower_mesh::fuzz::overrides(data);
});
