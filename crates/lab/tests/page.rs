//! The admin page in Chromium: a client's stages and a killed service change without a reload.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dess_lab::forward::Forward;
use dess_lab::{ClientOptions, DessServer, Firmware, Room, ServerOptions, image, packages};
use fantoccini::{Client as Browser, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

const BOOT_LIMIT: Duration = Duration::from_secs(180);
const BROWSER_LIMIT: Duration = Duration::from_secs(60);
const PAGE: &str = "http://10.77.0.1:8080";
const DRIVER_PORT: u16 = 9515;
/// See `axe/README.md`.
const AXE: &str = include_str!("axe/axe.min.js");
/// What axe-core finds that is serious or critical.
const RUN_AXE: &str = "const done = arguments[0];
     axe.run(document, { resultTypes: ['violations'] }).then((result) => done(result.violations
         .filter((found) => found.impact === 'serious' || found.impact === 'critical')
         .map((found) => [found.id, found.nodes[0].html, found.nodes[0].failureSummary])));";
/// Red: clearly more red than green and blue.
const IS_RED: &str =
    "const [r, g, b] = getComputedStyle(arguments[0]).color.match(/[\\d.]+/g).map(Number);
     return r > 1.3 * g && r > 1.3 * b;";
/// Notes every stage and state that the page shows for any seat, as it changes; also over a reload,
/// which the page does by itself when the first seat comes into an empty room.
const WATCH_SEATS: &str = "if (!window.watched) {
         window.watched = true;
         const note = () => {
             const seen = JSON.parse(sessionStorage.seen || '[]');
             for (const seat of document.querySelectorAll('#seats .seat')) {
                 const now = seat.dataset.state + ':' + (seat.dataset.stage || '');
                 if (!seen.includes(now)) seen.push(now);
             }
             sessionStorage.seen = JSON.stringify(seen);
         };
         new MutationObserver(note).observe(document.body,
             { subtree: true, childList: true, attributes: true });
         note();
     }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_stages_and_a_killed_service_live() -> Result<()> {
    packages::ensure()?;
    let image = image::tiny()?;
    let (server, room) = DessServer::in_new_room(&ServerOptions::default(), &image, "tiny")?;
    let (browser, _parts) = open_browser(&room).await?;
    let result = check_page(&server, &room, &browser).await;
    if result.is_err() {
        // What a person would look at first.
        eprintln!(
            "{}\n{}",
            browser.current_url().await?,
            browser.source().await?
        );
    }
    browser.close().await?;
    result
}

async fn check_page(server: &DessServer, room: &Room, browser: &Browser) -> Result<()> {
    set_up_and_log_in(server, browser).await?;
    browser.execute(WATCH_SEATS, vec![]).await?;

    let pc = room.client(ClientOptions::new(
        "pc",
        Firmware::UefiPxe,
        "52:54:00:77:00:01",
    ))?;
    let shown = format!(
        "{WATCH_SEATS} return document.querySelector('#seats .seat[data-state=\"running\"]') !== null;"
    );
    wait_for_script(browser, "the seat is shown as running", &shown, BOOT_LIMIT).await?;
    let seen = browser
        .execute("return JSON.parse(sessionStorage.seen);", vec![])
        .await?;
    let stages: Vec<&str> = seen
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(|state| state.as_str()?.strip_prefix("booting:"))
        .collect();
    // Steps of a few milliseconds may share one update of the page; these last for seconds.
    for lasting in ["dhcp", "firmware_login"] {
        ensure!(
            stages.contains(&lasting),
            "the page never showed the stage {lasting}, only {seen}"
        );
    }
    pc.wait_for(&["DESS-TINY-UP"], BROWSER_LIMIT)?;
    no_page_is_hard_to_use(browser).await?;
    browser.goto(PAGE).await?;

    a_killed_service_turns_red(server, browser).await
}

/// The first visit: the code from the server, then the owner's account.
async fn set_up_and_log_in(server: &DessServer, browser: &Browser) -> Result<()> {
    let code = server.cli(&["web", "setup-code"])?;
    browser.goto(PAGE).await?;
    let form = browser.form(Locator::Css("form[action='/setup']")).await?;
    form.set_by_name("code", code.trim()).await?;
    form.set_by_name("name", "owner").await?;
    form.set_by_name("password", "correct horse battery")
        .await?;
    form.set_by_name("again", "correct horse battery").await?;
    form.submit().await?;
    if browser
        .find(Locator::Css("form[action='/login']"))
        .await
        .is_ok()
    {
        let form = browser.form(Locator::Css("form[action='/login']")).await?;
        form.set_by_name("name", "owner").await?;
        form.set_by_name("password", "correct horse battery")
            .await?;
        form.submit().await?;
    }
    let live = "return document.querySelectorAll('#services [data-health=\"good\"]').length === 5
        && document.getElementById('link-state').dataset.link === 'live';";
    wait_for_script(browser, "five good services, live", live, BROWSER_LIMIT).await
}

/// axe-core finds nothing serious on any page, in both languages and on a narrow screen, too.
async fn no_page_is_hard_to_use(browser: &Browser) -> Result<()> {
    browser.goto(PAGE).await?;
    let seat = "return document.querySelector('#seats .seat a').getAttribute('href');";
    let client = browser.execute(seat, vec![]).await?;
    let client = client.as_str().context("no seat")?.to_owned();
    // Each pair takes a minute; the texts do not change what is found.
    for (language, width) in [("ko", 1280), ("en", 500)] {
        browser.set_window_size(width, 900).await?;
        for (path, click) in [
            ("/?view=map", ""),
            ("/?view=list", ""),
            ("/?view=map", "#arrange"),
            ("/?view=grid", "#select"),
            (&*client, ""),
            (&*format!("{client}/reset"), ""),
            ("/clients/batch?do=limits&s=1", ""),
            ("/images", ""),
            ("/images/action?act=rollout&image=tiny@1", ""),
            ("/services/iscsi", ""),
            ("/cases", ""),
            ("/nowhere", ""),
        ] {
            browser
                .goto(&format!("{PAGE}/language/{language}?back=/nowhere"))
                .await?;
            browser.goto(&format!("{PAGE}{path}")).await?;
            if !click.is_empty() {
                browser.find(Locator::Css(click)).await?.click().await?;
            }
            nothing_serious(browser, &format!("{language} {width} {path} {click}")).await?;
        }
    }
    Ok(())
}

async fn nothing_serious(browser: &Browser, page: &str) -> Result<()> {
    browser.execute(AXE, vec![]).await?;
    let found = browser.execute_async(RUN_AXE, vec![]).await?;
    ensure!(found == json!([]), "{page}: {found:#}");
    let too_wide = "return document.documentElement.scrollWidth > innerWidth;";
    let too_wide = browser.execute(too_wide, vec![]).await?;
    ensure!(too_wide == json!(false), "{page} is wider than the screen");
    Ok(())
}

/// `kill -9` until the supervisor waits before the next start, then until it is good again.
async fn a_killed_service_turns_red(server: &DessServer, browser: &Browser) -> Result<()> {
    let item = "#services [data-service=\"dhcp\"]";
    let before = browser
        .find(Locator::Css(&format!("{item} .state")))
        .await?
        .text()
        .await?;
    let started = Instant::now();
    loop {
        ensure!(
            started.elapsed() < BROWSER_LIMIT,
            "the killed service never turned red"
        );
        // Fails while there is no process to kill: that is the moment to look for.
        let _ = server.kill_service("dhcp");
        let bad = format!("return document.querySelector('{item}[data-health=\"bad\"] .state');");
        let state = browser.execute(&bad, vec![]).await?;
        if state.is_null() {
            continue;
        }
        let text = browser
            .find(Locator::Css(&format!("{item} .state")))
            .await?
            .text()
            .await?;
        let red = browser.execute(IS_RED, vec![state]).await;
        // The part may just have been replaced by a newer one: look again.
        let Ok(red) = red else { continue };
        ensure!(
            red == json!(true),
            "the state of a killed service is not red"
        );
        ensure!(
            text != before,
            "a killed service is not told in words: {text}"
        );
        break;
    }
    let good = format!("return document.querySelector('{item}[data-health=\"good\"]') !== null;");
    wait_for_script(browser, "the service is good again", &good, BROWSER_LIMIT).await
}

/// Chromium in the server's namespace, driven from outside.
async fn open_browser(room: &Room) -> Result<(Browser, Parts)> {
    let mut driver = room.server().command("chromedriver");
    driver.args([
        format!("--port={DRIVER_PORT}"),
        "--log-level=WARNING".to_owned(),
    ]);
    let driver = room.spawn_server("chromedriver", &mut driver)?;
    driver.wait_for_log("started successfully", BROWSER_LIMIT)?;
    let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, DRIVER_PORT));
    let forward = Forward::open(room.server(), 0, inside)?;
    let profile = room.directory().join("chromium");
    let options: Value = json!({
        "goog:chromeOptions": {
            // As root Chromium refuses to start with its sandbox.
            "args": ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--lang=en", format!("--user-data-dir={}", profile.display())],
        }
    });
    let capabilities = options.as_object().context("an object")?.clone();
    let browser = ClientBuilder::new(HttpConnector::new())
        .capabilities(capabilities)
        .connect(&format!("http://{}", forward.address()))
        .await
        .with_context(|| format!("chromedriver:\n{}", driver.log_tail(20)))?;
    Ok((
        browser,
        Parts {
            _forward: forward,
            _driver: driver,
        },
    ))
}

/// What the browser needs for as long as it lives.
struct Parts {
    _forward: Forward,
    _driver: dess_lab::Process,
}

async fn wait_for_script(
    browser: &Browser,
    what: &str,
    script: &str,
    limit: Duration,
) -> Result<()> {
    let started = Instant::now();
    while browser.execute(script, vec![]).await? != json!(true) {
        ensure!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
