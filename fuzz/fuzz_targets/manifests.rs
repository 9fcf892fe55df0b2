#![no_main]
//! YAML, all the way to policies and explanations.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tower_mesh::fuzz::manifests(data);
});
