//! The admin page in Korean and English.
//!
//! Pages are rendered on the server (askama); a small script adds live updates, filtering and
//! running clocks, and everything works without it. All facts come from
//! [`dess_node::operations`] and the supervisor; nothing here touches the data path, and the
//! page says so in words when the database or the supervisor cannot be asked.
//!
//! A request passes `routes` (limits, CSRF, headers), the `gate` (who asks, and may they), the
//! extractors of `visitor`, a handler of `page`, the words of `view` in the `catalog` of its language, and a
//! template. `live` renders the same `parts` again when something changed.

mod access;
pub mod api;
mod app;
mod assets;
mod catalog;
mod frame;
mod gate;
mod live;
mod page;
mod parts;
mod problem;
mod routes;
#[cfg(test)]
mod sample;
mod serve;
mod site;
mod view;
mod visitor;
mod wording;

pub use access::{
    ApiToken, PASSWORD_CHARS, RESET_CODE_VALID, password_hash, password_random, reset_code_issue,
    setup_code,
};
pub use catalog::Language;
pub use serve::{ServeError, WebOptions, serve, serve_on};
pub use view::probe_failure_in_words;
pub use view::{CaseWords, case_words};
