//! DHCPv4 for a boot room: codec, leases, full server and proxyDHCP as values; the sockets behind the feature server.
