//! The phrases of cases: causes, what to do, and what was seen.

pub(super) mod en;
mod keys;
pub(super) mod ko;

use super::phrases;
pub(crate) use keys::Cases;
