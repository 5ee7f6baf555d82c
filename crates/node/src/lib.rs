//! Management daemon: site snapshot, jobs, registration, boot attempts, service supervisor.

pub mod supervisor;
