//! The iPXE scripts. Written for the iPXE of Debian 12 (2019), checked on its ROM and loaders.
//!
//! A script never ends in an iPXE shell and never loops without a word on the screen: it boots,
//! or says a DESS code, waits and tries again.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use dess_model::{ClientEntry, MacAddr, SiteSnapshot};

use crate::failure::Advice;
use crate::firmware::{base_url, script_url};

/// Tries of all portals before the script is asked for anew.
const ATTEMPTS: u32 = 4;
/// Wait after the first try in seconds; it grows by as much after each.
const WAIT_SECS: u32 = 5;
/// Longest name that is shown, in characters.
const NAME_CHARS_MAX: usize = 32;

/// What a client shows that does not boot now. It asks again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Screen {
    /// There is no site snapshot: `node` has never run.
    NoSite,
    /// The network card is unknown; the registration is on its way.
    Registering,
    /// The operator has not approved it.
    AwaitsApproval,
    /// Nothing is assigned to boot.
    NoImage,
    /// It asks from another address than the one reserved for it.
    ForeignAddress {
        /// The reserved one.
        reserved: Ipv4Addr,
    },
    /// Its operating system is at work on its disk.
    Running,
    /// The iSCSI service does not answer.
    DiskServiceDown,
    /// The storage for clients' writes is nearly full.
    NoRoom {
        /// Percent in use.
        used_percent: u8,
    },
    /// The iSCSI service cannot make the disk.
    DiskFailed {
        /// Cause, for people.
        message: String,
    },
}

impl Screen {
    /// The DESS code on it; none where nothing is wrong.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::NoSite | Self::DiskServiceDown => Some("E11"),
            Self::DiskFailed { .. } => Some("E22"),
            Self::ForeignAddress { .. } => Some("E31"),
            Self::NoRoom { .. } => Some("E51"),
            Self::Registering | Self::AwaitsApproval | Self::NoImage | Self::Running => None,
        }
    }

    /// Seconds until it asks again.
    fn retry_secs(&self) -> u32 {
        match self {
            Self::Registering => 2,
            Self::NoSite
            | Self::AwaitsApproval
            | Self::NoImage
            | Self::ForeignAddress { .. }
            | Self::Running
            | Self::DiskServiceDown
            | Self::NoRoom { .. }
            | Self::DiskFailed { .. } => WAIT_SECS,
        }
    }

    /// What is the matter, and what to do.
    fn lines(&self) -> [String; 2] {
        let [problem, remedy] = match self {
            Self::NoSite => [
                "The server is not set up yet, or its management service has never run.",
                "On the DESS page, see Services; restart the red one.",
            ],
            Self::Registering => [
                "This PC is being registered.",
                "It starts by itself in a few seconds.",
            ],
            Self::AwaitsApproval => [
                "This PC is waiting for approval.",
                "On the DESS page, open Clients and approve it.",
            ],
            Self::NoImage => [
                "No image is assigned to this PC.",
                "On the DESS page, open this seat and choose an image.",
            ],
            Self::ForeignAddress { reserved } => {
                return [
                    format!(
                        "This PC has another address than {reserved}, which is reserved for it."
                    ),
                    "Restart it; if this stays, another machine uses that address or serves DHCP."
                        .to_owned(),
                ];
            }
            Self::Running => [
                "This PC seems to be running already; another one may use its name.",
                "It is tried again; to start it all the same, shut the other one down.",
            ],
            Self::DiskServiceDown => [
                "The disk service of the server does not answer.",
                "On the DESS page, see Services; restart the red one.",
            ],
            Self::NoRoom { used_percent } => {
                return [
                    format!(
                        "The server's storage is full to {used_percent} percent; this PC gets no disk."
                    ),
                    "On the DESS page, see Images, Space; PCs that run already go on.".to_owned(),
                ];
            }
            Self::DiskFailed { message } => {
                return [
                    "The server cannot prepare this PC's disk:".to_owned(),
                    printable(message, 70),
                ];
            }
        };
        [problem.to_owned(), remedy.to_owned()]
    }
}

/// The script that boots a client from its disk.
pub fn boot_script(snapshot: &SiteSnapshot, client: &ClientEntry) -> String {
    let iscsi = &client.iscsi;
    let who = who(client);
    let settings = [
        setting("initiator-iqn", &iscsi.initiator_iqn),
        setting("username", &iscsi.chap_user),
        setting("password", iscsi.chap_secret.expose()),
    ]
    .concat();
    // One drive for all portals: the next is tried only when the one before has failed.
    let mut portals = String::new();
    for portal in &snapshot.server.portals {
        let uri = format!(
            "iscsi:{}::{}:0:{}",
            portal.ip(),
            portal.port(),
            iscsi.target_iqn
        );
        // The gateway would go into the iBFT, and Windows would route its disk through the router.
        let _ = write!(
            portals,
            "echo Disk at {portal}\n\
             set failure 00000000\n\
             sanboot --drive 0x80 {uri} || set failure ${{errno:hexraw}}\n\
             sanunhook --drive 0x80 ||\n",
        );
    }
    let report = format!(
        "{}/report/{}?stage=sanboot&errno=${{failure}}",
        base_url(snapshot),
        client.mac.hyphenated()
    );
    let url = script_url(snapshot, client.mac);
    format!(
        "#!ipxe\n\
         {settings}\
         set netX/gateway 0.0.0.0\n\
         set keep-san 1\n\
         set tries:int32 0\n\
         set wait:int32 {WAIT_SECS}\n\
         :attempt\n\
         inc tries\n\
         echo DESS {who}: starting from its disk, try ${{tries}} of {ATTEMPTS}\n\
         {portals}\
         echo\n\
         echo DESS {who} ({mac}) could not start. Error ${{failure}}\n\
         chain --autofree {report} || echo {UNREACHABLE}\n\
         echo Trying again in ${{wait}} seconds.\n\
         sleep ${{wait}}\n\
         inc wait {WAIT_SECS}\n\
         iseq ${{tries}} {ATTEMPTS} || goto attempt\n\
         {again}",
        mac = client.mac,
        again = ask_again(&url, 0),
    )
}

/// A screen for a client that does not boot now; `url` is where it asks again.
pub fn screen_script(
    url: &str,
    mac: MacAddr,
    client: Option<&ClientEntry>,
    screen: &Screen,
) -> String {
    let who = client.map_or_else(|| "new PC".to_owned(), who);
    let [problem, remedy] = screen.lines();
    let code = screen
        .code()
        .map_or(String::new(), |code| format!("{code}: "));
    let secs = screen.retry_secs();
    format!(
        "#!ipxe\n\
         echo\n\
         echo DESS {who} ({mac})\n\
         echo {code}{problem}\n\
         echo {remedy}\n\
         echo This PC asks again every {secs} seconds.\n\
         {again}",
        again = ask_again(url, secs),
    )
}

/// The answer to a failure report: says what it means; the script that reported goes on after it.
pub fn report_script(advice: &Advice) -> String {
    format!(
        "#!ipxe\necho {}: {}\necho {}\n",
        advice.code, advice.problem, advice.remedy
    )
}

/// Shown when the server itself cannot be reached from a script.
const UNREACHABLE: &str =
    "E23: The server does not answer. Check the network cable and the server.";

/// Waits and loads the script anew, for ever.
fn ask_again(url: &str, secs: u32) -> String {
    format!(
        ":again\n\
         sleep {secs}\n\
         chain --replace --autofree {url} || echo {UNREACHABLE}\n\
         sleep {WAIT_SECS}\n\
         goto again\n"
    )
}

fn who(client: &ClientEntry) -> String {
    let name = printable(&client.name, NAME_CHARS_MAX);
    if name.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        format!("seat {} ({name})", client.seat)
    } else {
        format!("seat {}", client.seat)
    }
}

/// A `set` line that stores exactly this value, whatever iPXE would make of its characters.
fn setting(name: &str, value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@+=/".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
        return format!("set {name} {value}\n");
    }
    let bytes: Vec<String> = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("set {name}:hex {}\n", bytes.join(":"))
}

/// Text that iPXE shows as it is: ASCII without its own syntax, in one line.
fn printable(text: &str, chars_max: usize) -> String {
    let shown = |c: char| match c {
        _ if c.is_ascii_alphanumeric() || " -_.,:/()@+'".contains(c) => c,
        _ => '?',
    };
    text.chars().take(chars_max).map(shown).collect()
}

#[cfg(test)]
mod tests;
