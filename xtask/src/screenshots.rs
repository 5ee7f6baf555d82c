//! Pictures of every page of the admin page: both languages, light and dark, phone and desktop, to
//! be looked at.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::program::{cargo, root, run, target_directory};

const ROOM: &str = "127.0.0.1:8639";
/// Name and width in CSS pixels.
const SCREENS: [(&str, u64); 2] = [("phone", 390), ("desktop", 1280)];
/// Height of the window, and of the highest picture, in CSS pixels.
const HEIGHTS: (u64, u64) = (900, 5000);
/// Name, address (`seat:7` for the page of a seat), and what is clicked before the picture.
const PAGES: [(&str, &str, &str); 15] = [
    ("room-map", "/?view=map", ""),
    ("room-cards", "/?view=grid", ""),
    ("room-list", "/?view=list", ""),
    ("room-arrange", "/?view=map", "#arrange"),
    ("room-select", "/?view=map", "#select"),
    (
        "batch-reset",
        "/clients/batch?do=reset&s=1&s=2&s=12&s=20",
        "",
    ),
    ("batch-limits", "/clients/batch?do=limits&s=1&s=2&s=12", ""),
    ("client-running", "seat:1", ""),
    ("client-fault", "seat:7", ""),
    ("client-booting", "seat:9", ""),
    ("images", "/images", ""),
    (
        "image-rollout",
        "/images/action?act=rollout&image=windows11@2",
        "",
    ),
    (
        "image-publish",
        "/images/action?act=publish&image=windows11",
        "",
    ),
    ("service", "/services/iscsi", ""),
    ("not-found", "/nowhere", ""),
];

/// A child process that ends with its value.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes them all.
pub(crate) fn screenshots() -> Result<()> {
    run(&mut cargo(&[
        "build",
        "--package",
        "dess-web",
        "--example",
        "room",
    ]))?;
    let _room = open_room()?;
    let directory = root().join("target/screenshots");
    fs::create_dir_all(&directory)?;
    let mut browser = Browser::open()?;
    log_in(&mut browser)?;
    for language in ["ko", "en"] {
        browser.go(&format!("http://{ROOM}/language/{language}?back=/"))?;
        for theme in ["light", "dark"] {
            for (screen, width) in SCREENS {
                for page in PAGES {
                    let name = format!("{}-{language}-{theme}-{screen}.png", page.0);
                    picture(&mut browser, page, (theme, width), &directory.join(name))?;
                }
            }
        }
    }
    println!("the pictures are in {}", directory.display());
    Ok(())
}

fn open_room() -> Result<Program> {
    let program = target_directory().join("debug/examples/room");
    let mut child = Command::new(program)
        .arg(ROOM)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the sample room")?;
    let output = child.stdout.take().context("no output")?;
    let room = Program(child);
    let mut lines = BufReader::new(output).lines();
    lines.next().context("the sample room ended at once")??;
    Ok(room)
}

fn log_in(browser: &mut Browser) -> Result<()> {
    browser.go(&format!("http://{ROOM}/login"))?;
    browser.run(
        "const form = document.querySelector('form[action=\"/login\"]');
         form.elements.name.value = 'admin';
         form.elements.password.value = 'dess-room';
         form.requestSubmit();",
    )?;
    browser.wait_for("document.getElementById('seats') !== null")
}

fn picture(
    browser: &mut Browser,
    (_, address, click): (&str, &str, &str),
    (theme, width): (&str, u64),
    file: &Path,
) -> Result<()> {
    let phone = width < 600;
    let screen = |height: u64| json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
    browser.tools("Emulation.setDeviceMetricsOverride", &screen(HEIGHTS.0))?;
    let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
    browser.tools("Emulation.setEmulatedMedia", &scheme)?;
    let path = match address.strip_prefix("seat:") {
        Some(seat) => seat_path(browser, seat)?,
        None => address.to_owned(),
    };
    browser.go(&format!("http://{ROOM}{path}"))?;
    browser.wait_for("document.readyState === 'complete'")?;
    if !click.is_empty() {
        browser.run(&format!("document.querySelector('{click}').click();"))?;
    }
    let height = browser.run("return document.documentElement.scrollHeight;")?;
    let height = height
        .as_u64()
        .unwrap_or(HEIGHTS.0)
        .clamp(HEIGHTS.0, HEIGHTS.1);
    browser.tools("Emulation.setDeviceMetricsOverride", &screen(height))?;
    fs::write(file, browser.picture()?).with_context(|| format!("cannot write {}", file.display()))
}

fn seat_path(browser: &mut Browser, seat: &str) -> Result<String> {
    browser.go(&format!("http://{ROOM}/"))?;
    let find = format!(
        "return document.querySelector('.seat[data-seat=\"{seat}\"] a').getAttribute('href');"
    );
    let path: Value = browser.run(&find)?;
    Ok(path.as_str().context("no such seat")?.to_owned())
}
