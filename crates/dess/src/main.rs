//! The dess command: configuration, subcommands and wiring of every service.

fn main() {}
