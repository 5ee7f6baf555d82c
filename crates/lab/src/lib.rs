//! A virtual room for tests and the demo: namespaces, QEMU clients, boot images.
//!
//! A [`Room`] is one server namespace and one switch namespace that share a bridge; [`Client`]s are
//! un-modified QEMU machines plugged into that bridge, and peers ([`Room::peer`]) are further
//! namespaces on it. Everything has a name that carries the owner's pid, and goes away with the
//! [`Room`]: on drop, on panic, on Ctrl-C, and at the latest when the next room sweeps.
//!
//! Needs root (namespaces, taps) and the Debian packages that [`packages::ensure`] installs.

pub mod accel;
pub mod client;
pub mod forward;
pub mod image;
pub mod interrupt;
pub mod namespace;
pub mod packages;
pub mod partition;
pub mod process;
pub mod room;
pub mod server;

mod command;
mod png;
mod wait;

pub use client::{Client, ClientOptions, Firmware};
pub use image::Image;
pub use namespace::Namespace;
pub use process::Process;
pub use room::{Room, RoomOptions};
pub use server::{DessServer, ServerOptions};
