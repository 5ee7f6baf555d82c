//! DHCPv4 for a boot room: codec, leases, full server and proxyDHCP as values; the sockets behind
//! the feature `server`.
//!
//! - [`Message`] and [`Options`] are the wire format; [`Requester`] tells firmware, iPXE and
//!   operating system apart.
//! - [`Exchange`] is the server without sockets: datagrams and time in, answers, lease records and
//!   events out. [`LeaseTable`] is its memory, the functions of [`record`] its durable form.
//! - `server` is the shell: sockets, the journal file, address probes, router advertisements.

mod answer;
mod call;
mod error;
mod exchange;
mod lease;
mod malformed;
mod message;
pub mod option;
mod phase;
mod pool;
mod proxy;
mod recent;
pub mod record;
mod rogue;
mod service_probe;
mod site;
mod supply;

#[cfg(feature = "server")]
pub mod server;

pub use error::{DecodeError, TooLong};
pub use exchange::{Arrival, CLIENT_PORT, Exchange, Outcome, PROXY_PORT, SERVER_PORT, Transmit};
pub use lease::{Binding, BindingState, LeaseTable};
pub use message::{MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX, Message, MessageType, Operation};
pub use option::Options;
pub use phase::{BootClass, Requester};
pub use site::SiteIndex;
