//! Feeds libFuzzer's bytes to [`raftkv_fuzz::targets::backup_config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    raftkv_fuzz::targets::backup_config(data);
});
