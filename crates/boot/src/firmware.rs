//! Which boot file a client is told to load next.

use dess_model::{Architecture, ClientEntry, MacAddr, SiteSnapshot};

/// The boot file for DHCP's file field or option 67: a TFTP file name or a URL.
///
/// A client that already speaks iPXE always gets the script and never a loader again, whatever its
/// architecture (`docs/architecture.md`: an endless chain otherwise). None for a client that did
/// not say what firmware it has, or has one that nothing here can boot.
pub fn boot_file(
    snapshot: &SiteSnapshot,
    client: Option<&ClientEntry>,
    mac: MacAddr,
    architecture: Option<Architecture>,
    speaks_ipxe: bool,
) -> Option<String> {
    if speaks_ipxe {
        return Some(script_url(snapshot, mac));
    }
    let architecture = architecture?;
    let name = match client.and_then(|client| client.boot_file.as_deref()) {
        Some(chosen) => chosen,
        None => loader(architecture)?,
    };
    if architecture.is_http() && !name.contains("://") {
        return Some(format!("{}/files/{name}", base_url(snapshot)));
    }
    Some(name.to_owned())
}

/// URL of a client's boot script.
pub fn script_url(snapshot: &SiteSnapshot, mac: MacAddr) -> String {
    format!("{}/boot/{}.ipxe", base_url(snapshot), mac.hyphenated())
}

/// `http://<server>[:<port>]` of the boot service.
pub fn base_url(snapshot: &SiteSnapshot) -> String {
    let server = &snapshot.server;
    match server.http_port {
        80 => format!("http://{}", server.address),
        port => format!("http://{}:{port}", server.address),
    }
}

/// The iPXE build for an architecture.
fn loader(architecture: Architecture) -> Option<&'static str> {
    match architecture {
        Architecture::Bios => Some("undionly.kpxe"),
        Architecture::UefiX64 | Architecture::UefiX64Http => Some("snponly.efi"),
        Architecture::UefiArm64 | Architecture::UefiArm64Http => Some("snponly-arm64.efi"),
        Architecture::UefiIa32 | Architecture::Unknown(_) => None,
    }
}
