//! Who may use the pages: passwords, login sessions, throttling and the first set-up.

mod password;
mod session;
mod setup_code;
mod throttle;
mod tickets;
mod totp;

pub use password::{PASSWORD_CHARS, password_hash, password_random};
pub(crate) use password::{PASSWORD_CHARS_MAX, PasswordError, Passwords};
pub use session::ApiToken;
pub(crate) use session::{SESSION_MS, SessionCache, Token};
pub(crate) use setup_code::{
    CodeUse, code_discard, code_matches, setup_code_provide, waiting_code,
};
pub use setup_code::{RESET_CODE_VALID, reset_code_issue, setup_code};
pub(crate) use throttle::{Throttle, network};
pub(crate) use tickets::Tickets;
pub(crate) use totp::{Picture, TotpKey, picture, recovery_codes, recovery_hash};
