//! Feeds libFuzzer's bytes to [`raftkv_fuzz::targets::snapshot_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    raftkv_fuzz::targets::snapshot_file(data);
});
