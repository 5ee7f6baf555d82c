//! Users, login sessions, second factors and API tokens. Hashing is the caller's business; here
//! are only texts.

mod second_factor;
mod sessions;
mod tokens;
mod users;

pub use second_factor::SecondFactor;
pub use sessions::{OpenSession, SessionCreate, SessionView};
pub use tokens::{TokenCreate, TokenLogin, TokenView};
pub use users::{Credentials, UserChange, UserCreate, UserView};

#[cfg(test)]
mod tests;
