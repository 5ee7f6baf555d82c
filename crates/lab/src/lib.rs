//! A virtual room for tests and the demo: namespaces, QEMU clients, boot images.
