//! Read-only TFTP server: packets and transfers as values; the sockets behind the feature server.
