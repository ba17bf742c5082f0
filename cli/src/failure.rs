//! How a command fails: one line for people, one number for scripts.

use crate::say::say;
use raftkv_core::api::{Error, Obstacle};
use raftkv_node::client::ClientError;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Exit codes, as documented in `docs/CLI.md`. Zero is success, 2 is clap's for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Nobody reads what is printed any more: the command ends early, and nobody is to be told.
    Unread = 0,
    /// It failed, and no other code fits.
    Failed = 1,
    /// The command or its input makes no sense.
    Usage = 2,
    /// No node could be reached, or none could serve in time.
    Unreachable = 4,
    /// What was checked is damaged.
    Verification = 5,
    /// A disk or an object store failed.
    Storage = 6,
    /// What was asked for does not exist.
    NotFound = 10,
    /// A key is missing or does not fit.
    Key = 12,
    /// It would break a safety rule.
    Refused = 13,
}

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with its line.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Failure { exit, message: message.to_string() }
    }

    /// A file that cannot be read or written.
    pub fn file(what: &str, path: &std::path::Path, error: impl fmt::Display) -> Self {
        Failure::new(Exit::Storage, format!("{} cannot be {what}: {error}", path.display()))
    }

    /// Output that cannot be written, to a file or to whoever reads stdout.
    pub fn output(path: &std::path::Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Unread, error),
            _ => Failure::file("written", path, error),
        }
    }

    /// Its place in the documented list.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the line on stderr, if it is anybody's business. The exit code counts also where nobody reads that any more, as behind a terminal that was closed.
    pub fn report(&self) {
        if self.exit != Exit::Unread {
            say!("{self}");
        }
    }

    /// For the operating system.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Obstacle> for Exit {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Refused => Exit::Refused,
            Obstacle::Store => Exit::Storage,
            Obstacle::Other => Exit::Failed,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable { .. } | ClientError::Timeout { .. } => Exit::Unreachable,
            ClientError::Endpoint { .. } => Exit::Usage,
            ClientError::Refused(Error::NotFound(_) | Error::LeaseNotFound(_)) => Exit::NotFound,
            ClientError::Refused(Error::Refused(_)) => Exit::Refused,
            ClientError::Refused(Error::Unavailable(_) | Error::NotLeader { .. }) => {
                Exit::Unreachable
            }
            ClientError::Refused(_)
            | ClientError::OutcomeUnknown { .. }
            | ClientError::Tls(_)
            | ClientError::Unexpected { .. } => Exit::Failed,
        };
        Failure::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_errors_have_the_documented_codes() {
        let exit = |error: ClientError| Failure::from(error).exit() as u8;
        let unreachable =
            ClientError::Unreachable { addresses: String::new(), last: String::new() };
        assert_eq!(exit(unreachable), 4);
        assert_eq!(exit(ClientError::Refused(Error::LeaseNotFound(3))), 10);
        assert_eq!(exit(ClientError::Refused(Error::Refused("no".into()))), 13);
        assert_eq!(exit(ClientError::OutcomeUnknown { why: String::new() }), 1);
    }
}
