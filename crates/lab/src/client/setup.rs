//! OVMF's set-up pages, used over the serial line as a person would: one key, then a look.

use std::ops::Range;
use std::time::Duration;

use anyhow::Context as _;
use vt100::Color;

use super::Client;
use crate::wait;

/// The set-up of a UEFI client, at its front page when entered.
///
/// Pages have the labels on the left, the values beside them and a help text on the right that
/// repeats labels. The chosen row is white on black.
#[derive(Debug)]
pub struct Setup<'a> {
    client: &'a Client,
    terminal: Terminal,
}

impl<'a> Setup<'a> {
    /// Presses Escape until the front page is there.
    pub(super) fn enter(client: &'a Client, limit: Duration) -> anyhow::Result<Self> {
        let mut setup = Self {
            client,
            // Without what an earlier power-on has shown.
            terminal: Terminal::new(client.console.bytes_after(0).len()),
        };
        for _ in 0..limit.as_millis() / ESCAPE_INTERVAL.as_millis() {
            setup.client.console.send(ESCAPE)?;
            let front = |screen: &vt100::Screen| screen.contents().contains("Device Manager");
            if setup.seen_within(ESCAPE_INTERVAL, front)? {
                setup.settle()?;
                return Ok(setup);
            }
        }
        anyhow::bail!(
            "the set-up did not come within {limit:?}:\n{}",
            setup.text()
        )
    }

    /// Opens the page, or does the command, that `label` names.
    ///
    /// # Errors
    /// With the screen, when there is no such row, or nothing comes of it.
    pub fn open(&mut self, label: &str) -> anyhow::Result<()> {
        self.highlight(label)?;
        self.confirm(label)
    }

    /// Types `value` into the field `label`.
    ///
    /// # Errors
    /// With the screen, when the field does not take it.
    pub fn fill(&mut self, label: &str, value: &str) -> anyhow::Result<()> {
        self.open(label)?;
        for (at, key) in value.char_indices() {
            let echo = &value[..at + key.len_utf8()];
            // The pop-up shows the end of a long value, or stars for a secret one.
            let end: String = echo.chars().rev().take(12).collect();
            let end: String = end.chars().rev().collect();
            let stars = "*".repeat(echo.len());
            self.press(
                &key.to_string(),
                &format!("{label} takes {echo}"),
                |screen| {
                    let text = screen.contents();
                    text.contains(&end) || text.contains(&stars)
                },
            )?;
        }
        self.confirm(label)
    }

    /// Sets the field `label` to the choice `option`.
    ///
    /// # Errors
    /// With the screen, when the field or the choice does not exist.
    pub fn choose(&mut self, label: &str, option: &str) -> anyhow::Result<()> {
        self.open(label)?;
        for _ in 0..CHOICES_MAX {
            if chosen_option(self.terminal.screen()) == option {
                self.confirm(label)?;
                let shown = format!("<{option}>");
                anyhow::ensure!(
                    self.text().contains(&shown),
                    "{label} is not {shown}:\n{}",
                    self.text()
                );
                return Ok(());
            }
            self.step()?;
        }
        anyhow::bail!("no choice {option:?} for {label:?}:\n{}", self.text())
    }

    /// Ticks the box `label`.
    ///
    /// # Errors
    /// With the screen, when there is no such box.
    pub fn tick(&mut self, label: &str) -> anyhow::Result<()> {
        self.highlight(label)?;
        self.press(" ", &format!("{label} is ticked"), |screen| {
            chosen_rows(screen, PAGE).any(|row| row.contains("[X]"))
        })
    }

    /// Everything on the screen.
    pub fn text(&self) -> String {
        self.terminal.screen().contents()
    }

    /// Moves down until the row of `label` is chosen.
    fn highlight(&mut self, label: &str) -> anyhow::Result<()> {
        for _ in 0..ROWS_MAX {
            if chosen_rows(self.terminal.screen(), LABELS).any(|row| row.contains(label)) {
                return Ok(());
            }
            self.step()?;
        }
        anyhow::bail!("no row {label:?}:\n{}", self.text())
    }

    /// One row down.
    fn step(&mut self) -> anyhow::Result<()> {
        let before = self.terminal.screen().contents_formatted();
        self.press(DOWN, "the next row is chosen", |screen| {
            screen.contents_formatted() != before
        })?;
        self.settle()
    }

    /// Presses Enter: on the chosen row, or in its pop-up.
    fn confirm(&mut self, label: &str) -> anyhow::Result<()> {
        let before = self.text();
        self.press(ENTER, &format!("something comes of {label}"), |screen| {
            screen.contents() != before
        })?;
        self.settle()
    }

    /// Presses `key` and waits for what comes of it.
    fn press(
        &mut self,
        key: &str,
        what: &str,
        mut done: impl FnMut(&vt100::Screen) -> bool,
    ) -> anyhow::Result<()> {
        self.client.console.send(key)?;
        anyhow::ensure!(
            self.seen_within(KEY_LIMIT, &mut done)?,
            "not within {KEY_LIMIT:?}: {what}; the screen:\n{}",
            self.text()
        );
        Ok(())
    }

    fn seen_within(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&vt100::Screen) -> bool,
    ) -> anyhow::Result<bool> {
        let client = self.client;
        let seen = wait::until(limit, || {
            client.console.check_open()?;
            self.terminal.feed(client);
            Ok(done(self.terminal.screen()).then_some(()))
        })?;
        Ok(seen.is_some())
    }

    /// Waits until the firmware has drawn everything: keys pressed before may be lost.
    fn settle(&mut self) -> anyhow::Result<()> {
        let client = self.client;
        let mut quiet = 0;
        wait::until(KEY_LIMIT, || {
            client.console.check_open()?;
            quiet = if self.terminal.feed(client) {
                0
            } else {
                quiet + 1
            };
            Ok((quiet >= QUIET_LOOKS).then_some(()))
        })?
        .with_context(|| format!("the screen does not come to rest:\n{}", self.text()))
    }
}

/// What the serial line has drawn.
struct Terminal {
    parser: vt100::Parser,
    fed: usize,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.screen().contents())
    }
}

impl Terminal {
    fn new(from: usize) -> Self {
        Self {
            parser: vt100::Parser::new(SCREEN.0, SCREEN.1, 0),
            fed: from,
        }
    }

    /// Draws what has arrived; true if anything has.
    fn feed(&mut self, client: &Client) -> bool {
        let mut fresh = client.console.bytes_after(self.fed);
        self.fed += fresh.len();
        // The frames are in code page 437.
        for byte in fresh.iter_mut().filter(|byte| !byte.is_ascii()) {
            *byte = b'.';
        }
        self.parser.process(&fresh);
        !fresh.is_empty()
    }

    fn screen(&self) -> &vt100::Screen {
        self.parser.screen()
    }
}

/// Text of the rows with white on black in the columns of labels and values, cut to `columns`.
fn chosen_rows(screen: &vt100::Screen, columns: Range<u16>) -> impl Iterator<Item = String> {
    let is_chosen = |row: &u16| {
        PAGE.filter_map(|column| screen.cell(*row, column))
            .any(|cell| cell.contents().trim() != "" && colours(cell) == (WHITE, BLACK))
    };
    (0..SCREEN.0).filter(is_chosen).map(move |row| {
        columns
            .clone()
            .filter_map(|column| screen.cell(row, column))
            .map(letter)
            .collect()
    })
}

/// The option of a pop-up list that Enter would take: white on cyan.
fn chosen_option(screen: &vt100::Screen) -> String {
    let cells = (0..SCREEN.0)
        .flat_map(|row| (0..SCREEN.1).map(move |column| (row, column)))
        .filter_map(|(row, column)| screen.cell(row, column));
    let chosen: String = cells
        .filter(|cell| colours(cell) == (WHITE, CYAN))
        .map(letter)
        .collect();
    chosen.trim().to_owned()
}

fn colours(cell: &vt100::Cell) -> (Color, Color) {
    (cell.fgcolor(), cell.bgcolor())
}

fn letter(cell: &vt100::Cell) -> char {
    cell.contents().chars().next().unwrap_or(' ')
}

/// Rows and columns.
const SCREEN: (u16, u16) = (25, 80);
/// Columns of labels and values.
const PAGE: Range<u16> = 2..54;
/// Columns of labels.
const LABELS: Range<u16> = 0..30;
const BLACK: Color = Color::Idx(0);
const CYAN: Color = Color::Idx(6);
const WHITE: Color = Color::Idx(7);
const ESCAPE: &str = "\x1b";
const ENTER: &str = "\r";
const DOWN: &str = "\x1b[B";
/// How long firmware on a loaded machine may take to react to a key.
const KEY_LIMIT: Duration = Duration::from_secs(30);
/// Firmware waits 2 s for more before it takes an escape character for the key.
const ESCAPE_INTERVAL: Duration = Duration::from_millis(2500);
/// Looks without anything new after which the screen counts as drawn.
const QUIET_LOOKS: u32 = 15;
const ROWS_MAX: usize = 40;
const CHOICES_MAX: usize = 8;
