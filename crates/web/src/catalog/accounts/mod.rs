//! The phrases of accounts: two-step login, users, tokens, the audit log.

pub(super) mod en;
mod keys;
pub(super) mod ko;

use super::phrases;
pub(crate) use keys::Accounts;
