//! The operations on a database file, without the daemon.
