//! The iSCSI service: connections, sessions and disks over the pure protocol crates.
