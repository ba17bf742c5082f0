//! Feeds libFuzzer's bytes to [`raftkv_fuzz::targets::backup_markers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    raftkv_fuzz::targets::backup_markers(data);
});
