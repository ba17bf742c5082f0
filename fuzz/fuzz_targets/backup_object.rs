//! Feeds libFuzzer's bytes to [`raftkv_fuzz::backups::backup_object`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    raftkv_fuzz::backups::backup_object(data);
});
