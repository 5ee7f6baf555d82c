//! From facts to words: what the templates show, in the reader's language.

mod access;
mod boot;
mod case;
mod client;
mod floor;
mod image;
mod matter;
mod probe;
mod seat;
mod service;
mod space;

pub(crate) use access::{AuditRow, SessionRow, TokenRow, UserRow, role_word, scope_word};
pub(crate) use boot::{BootRow, boot_rows};
pub(crate) use case::{CaseLink, CaseRow, case_line};
pub use case::{CaseWords, case_words};
pub(crate) use client::{ClientForm, Fact, Trouble, facts};
pub(crate) use floor::{Floor, Place, outline};
pub(crate) use image::{ImageRow, JobRow, image_labels, image_rows, job_rows};
pub(crate) use matter::{Matter, Verdict, counted, fault_words, verdict};
pub use probe::probe_failure_in_words;
pub(crate) use seat::{Chip, MAINTENANCE, Seat, chips};
pub(crate) use service::{ServiceRow, service_name, service_rows};
pub(crate) use space::{SpacePanel, space_panel};
