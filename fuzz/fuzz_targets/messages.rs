#![no_main]
//! Protobuf: messages of the control plane to policies and back.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tower_mesh::fuzz::messages(data);
});
