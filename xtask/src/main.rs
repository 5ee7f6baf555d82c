//! Developer commands: `cargo xtask <command>`.

mod bench;
mod browser;
mod demo;
mod fuzz;
mod lint;
mod program;
mod schemathesis;
mod screenshots;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of DESS")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boots virtual diskless PCs end to end and serves the admin page.
    Demo(demo::DemoArguments),
    /// Runs all tests, with everything that they need installed first.
    Test(test::TestArguments),
    /// Formatting, lints, house rules, documentation.
    Lint,
    /// Everything that must pass before a change lands: lint, then test.
    Ci,
    /// House rules alone: layers, sizes, names, links.
    Tidy,
    /// Runs the fuzz targets for a bounded time each.
    Fuzz(fuzz::FuzzArguments),
    /// Pictures of every page, in both languages, light and dark, on a phone and on a desktop.
    Screenshots,
    /// Measures a service beside its peers in one run.
    Bench(bench::BenchArguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Lint => lint::lint(),
        Command::Ci => {
            lint::lint()?;
            test::test(&test::TestArguments::default())
        }
        Command::Tidy => tidy::tidy(),
        Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Command::Screenshots => screenshots::screenshots(),
        Command::Bench(arguments) => bench::bench(&arguments),
    }
}
