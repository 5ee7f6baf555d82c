//! Users, their login sessions, second factors and API tokens.

mod session;
mod token;
mod user;

pub use session::SessionRecord;
pub use token::TokenRecord;
pub use user::UserRecord;
