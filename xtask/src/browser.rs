//! Chromium, driven over WebDriver (W3C) with Chrome's own commands where that has none.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

const DRIVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9539);
const LIMIT: Duration = Duration::from_secs(60);

/// One window; closed with its value.
pub(crate) struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    /// Starts chromedriver and a window without a screen.
    ///
    /// # Errors
    /// If one of them does not start.
    pub(crate) fn open() -> Result<Self> {
        let mut driver = Command::new("chromedriver")
            .args([&format!("--port={}", DRIVER.port()), "--log-level=WARNING"])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start chromedriver (package chromium-driver)")?;
        let output = driver.stdout.take().context("no output")?;
        let mut browser = Self {
            driver,
            session: String::new(),
        };
        let mut lines = BufReader::new(output).lines();
        let started =
            lines.any(|line| line.is_ok_and(|line| line.contains("started successfully")));
        ensure!(started, "chromedriver does not start");
        // As root Chromium refuses to start with its sandbox.
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let wanted =
            json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let session = ask("POST", "/session", &wanted)?;
        let id = session.get("sessionId").and_then(Value::as_str);
        id.context("no session")?.clone_into(&mut browser.session);
        Ok(browser)
    }

    /// Opens an address.
    ///
    /// # Errors
    /// If the browser does not answer.
    pub(crate) fn go(&mut self, url: &str) -> Result<()> {
        self.post("url", &json!({ "url": url })).map(drop)
    }

    /// Runs a script in the page and answers what it returns.
    ///
    /// # Errors
    /// If the script fails.
    pub(crate) fn run(&mut self, script: &str) -> Result<Value> {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// If it is not within a minute.
    pub(crate) fn wait_for(&mut self, expression: &str) -> Result<()> {
        let started = Instant::now();
        while self.run(&format!("return {expression};"))? != json!(true) {
            ensure!(
                started.elapsed() < LIMIT,
                "not within {LIMIT:?}: {expression}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// One of Chrome's own commands.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) fn tools(&mut self, command: &str, parameters: &Value) -> Result<Value> {
        self.post(
            "goog/cdp/execute",
            &json!({"cmd": command, "params": parameters}),
        )
    }

    /// What the window shows, as PNG.
    ///
    /// # Errors
    /// If the browser does not answer.
    pub(crate) fn picture(&mut self) -> Result<Vec<u8>> {
        let path = format!("/session/{}/screenshot", self.session);
        let answer = ask("GET", &path, &Value::Null)?;
        from_base64(answer.as_str().context("no picture")?)
    }

    fn post(&mut self, command: &str, body: &Value) -> Result<Value> {
        ask(
            "POST",
            &format!("/session/{}/{command}", self.session),
            body,
        )
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends either way.
        let _ = ask(
            "DELETE",
            &format!("/session/{}", self.session),
            &Value::Null,
        );
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// One request to the driver; answers its value.
fn ask(method: &str, path: &str, body: &Value) -> Result<Value> {
    let mut stream = TcpStream::connect_timeout(&DRIVER, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {DRIVER}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut answer = Vec::new();
    reader.take(length).read_to_end(&mut answer)?;
    let answer: Value = serde_json::from_slice(&answer).context("not an answer of WebDriver")?;
    let value = answer.get("value").cloned().unwrap_or_default();
    if let Some(error) = value.get("error").and_then(Value::as_str) {
        bail!("{method} {path}: {error}: {}", value["message"]);
    }
    Ok(value)
}

/// RFC 4648 §4, with padding at the end alone.
fn from_base64(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => bail!("{other:#x} is not base64"),
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_back() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(from_base64(text).unwrap(), bytes.as_bytes());
        }
        assert!(from_base64("Zm 9").is_err());
    }
}
