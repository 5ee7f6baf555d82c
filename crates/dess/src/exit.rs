//! Exit codes, the same for every command.

use std::process::ExitCode;

use dess_node::operations::OperationError;

use crate::control::RemoteError;

/// Something is abnormal, as `dess status` and the checks found.
pub(crate) const ABNORMAL: u8 = 3;
/// There is no such thing.
const NOT_FOUND: u8 = 4;
/// The present state does not allow it, or a value is taken.
const REFUSED: u8 = 5;
/// A value cannot be accepted.
const INVALID: u8 = 6;
/// A service, the database or the server cannot be used.
const UNAVAILABLE: u8 = 7;
/// The token is missing, ended, or does not allow it.
const NOT_ALLOWED: u8 = 8;

/// What a man page says of exit codes.
pub(crate) const DESCRIPTION: &str = "\
0  done
1  failed otherwise
2  the command line is wrong
3  something is abnormal, as status and the checks found
4  there is no such client, image, job ...
5  refused: the present state does not allow it, or a value is taken
6  a value cannot be accepted
7  a service, the database or the other server cannot be used
8  the token is missing, has ended, or does not allow it";

/// The exit code of a command that failed.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<OperationError>() {
        return ExitCode::from(of_operation(error));
    }
    match error.downcast_ref::<RemoteError>() {
        Some(RemoteError::Unreachable { .. }) => ExitCode::from(UNAVAILABLE),
        Some(RemoteError::Problem(details)) => ExitCode::from(of_status(details.status)),
        None => ExitCode::FAILURE,
    }
}

fn of_operation(error: &OperationError) -> u8 {
    match error {
        OperationError::NotFound { .. } => NOT_FOUND,
        OperationError::Conflict { .. }
        | OperationError::SiteExists { .. }
        | OperationError::Stale { .. }
        | OperationError::Refused(_)
        | OperationError::Target(_) => REFUSED,
        OperationError::Invalid { .. } => INVALID,
        OperationError::NoSite | OperationError::Service(_) | OperationError::Store(_) => {
            UNAVAILABLE
        }
    }
}

fn of_status(status: u16) -> u8 {
    match status {
        401 | 403 => NOT_ALLOWED,
        404 => NOT_FOUND,
        409 | 412 | 507 => REFUSED,
        400 | 422 => INVALID,
        502..=504 => UNAVAILABLE,
        _ => 1,
    }
}
