//! The daemon with a real database file, real sockets and a real import.
