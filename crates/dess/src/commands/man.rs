//! `dess man`

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::arguments::Arguments;
use crate::exit;

/// Writes a page for each command: `dess.1`, `dess-client.1`, `dess-client-list.1` ...
pub(super) fn write(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    write_pages(directory, &command, "dess")
}

fn write_pages(directory: &Path, command: &Command, name: &str) -> Result<()> {
    let file = directory.join(format!("{name}.1"));
    let page = page(command, name)?;
    File::create(&file)
        .and_then(|mut made| made.write_all(&page))
        .with_context(|| format!("cannot write {}", file.display()))?;
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        write_pages(directory, below, &format!("{name}-{}", below.get_name()))?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>> {
    let man = Man::new(command.clone().display_name(name.to_owned())).title(name);
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut codes = Roff::new();
    codes.control("SH", ["EXIT STATUS"]);
    codes.control("nf", []);
    codes.text(
        exit::DESCRIPTION
            .lines()
            .map(|line| roman(format!("{line}\n")))
            .collect::<Vec<_>>(),
    );
    codes.control("fi", []);
    codes.to_writer(&mut page)?;
    Ok(page)
}
