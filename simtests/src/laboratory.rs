//! The other build of the simulator, which holds what no other build may: ring 1, where madsim owns the time (`--cfg madsim`), and the
//! planted bugs (`--cfg planted_bugs`).
//!
//! Both are switches of the whole dependency tree, so this build has a directory of its own. It is made by whoever first needs it, with
//! nothing but cargo.

use std::path::Path;
use std::process::Command;

/// Whether this is that build.
pub const IS_HERE: bool = cfg!(all(madsim, planted_bugs));

/// Builds that simulator, and runs it with these arguments.
pub fn command(arguments: &[String]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root");
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command
        .current_dir(root)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", format!("{flags} --cfg madsim --cfg planted_bugs"))
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        .args(["run", "--quiet", "--locked", "--profile", "test", "-p", "simtests", "--bin", "sim"])
        .args(["--target-dir", "target/laboratory", "--"])
        .args(arguments);
    command
}
