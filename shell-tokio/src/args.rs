//! The command line of `raftkv-node`: a flag for every setting, made from the same table as file and environment.

use crate::config::keys::{KEYS, OTHER_VARIABLES};
use crate::config::source::Layers;
use crate::config::{ConfigError, Settings};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the operator asked for.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The checked settings.
    pub settings: Settings,
    /// Where they come from, for showing.
    pub layers: Layers,
    /// Only check and show the configuration.
    pub check_config: bool,
    /// `RAFTKV_*` variables that mean nothing to a node.
    pub unknown_variables: Vec<String>,
}

/// The parser.
pub fn command() -> Command {
    let mut command = Command::new("raftkv-node")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A node of RaftKV, a replicated key-value store that can be brought back.")
        .after_help(
            "Every setting can also stand in the configuration file (data_dir: ...) and in the environment \
             (RAFTKV_DATA_DIR); flags win over the environment, the environment over the file.\n\
             Exit codes: 0 stopped as asked, 1 failed, 2 usage or configuration, 3 data directory refused, \
             4 network, 5 joining failed, 6 disk failed, 7 removed from the cluster, 8 data directory rolled back.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .env("RAFTKV_CONFIG")
                .value_parser(clap::value_parser!(PathBuf))
                .help("configuration file (YAML)"),
        )
        .arg(
            Arg::new("check-config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("check the configuration, print what is in effect, and exit"),
        );
    for key in KEYS {
        let default = match key.default {
            "" | "false" => String::new(),
            default => format!(" [{default}]"),
        };
        let flag = Arg::new(key.name).long(key.flag()).help(format!("{}{default}", key.help));
        command = command.arg(match key.is_switch() {
            true => flag.action(ArgAction::SetTrue),
            false => flag.value_name(key.value).action(ArgAction::Set),
        });
    }
    command
}

/// Reads file, environment and flags, and checks what comes out.
pub fn read(
    matches: &ArgMatches,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Invocation, ConfigError> {
    let mut layers = Layers::defaults();
    if let Some(path) = matches.get_one::<PathBuf>("config") {
        let shown = path.display().to_string();
        let yaml = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: shown.clone(),
            why: error.to_string(),
        })?;
        layers.add_yaml(&shown, &yaml)?;
    }
    let mut unknown_variables = layers.add_environment(environment)?;
    unknown_variables.retain(|name| !OTHER_VARIABLES.contains(&name.as_str()));
    for key in KEYS {
        if key.is_switch() {
            if matches.get_flag(key.name) {
                layers.add_flag(key.name, "true");
            }
        } else if let Some(value) = matches.get_one::<String>(key.name) {
            layers.add_flag(key.name, value);
        }
    }
    let settings = Settings::from_layers(&layers)?;
    let check_config = matches.get_flag("check-config");
    Ok(Invocation { settings, layers, check_config, unknown_variables })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoke(args: &[&str], environment: &[(&str, &str)]) -> Result<Invocation, ConfigError> {
        let args = ["raftkv-node"].iter().chain(args);
        let matches = command().try_get_matches_from(args).unwrap();
        read(&matches, environment.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn the_parser_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("raftkv.yaml");
        std::fs::write(&file, "id: 1\nsnapshots_kept: 5\nlog_format: json\n").unwrap();
        let file = file.to_str().unwrap();
        let environment = [("RAFTKV_ID", "2"), ("RAFTKV_SNAPSHOTS_KEPT", "6")];
        let invocation = invoke(&["--config", file, "--id", "3"], &environment).unwrap();
        assert_eq!(invocation.settings.id, Some(3));
        assert_eq!(invocation.settings.core.snapshots_kept, 6);
        assert_eq!(invocation.settings.log_format, crate::config::LogFormat::Json);
    }

    #[test]
    fn variables_of_the_command_line_are_no_typing_errors() {
        let environment = [("RAFTKV_ENDPOINTS", "h:1"), ("RAFTKV_LITSEN", "x")];
        let invocation = invoke(&[], &environment).unwrap();
        assert_eq!(invocation.unknown_variables, ["RAFTKV_LITSEN"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = invoke(&["--config", "/nonexistent.yaml"], &[]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent.yaml"), "{error}");
    }
}
