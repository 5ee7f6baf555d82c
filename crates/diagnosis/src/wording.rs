//! Details of steps, in English.

use std::net::Ipv4Addr;

use dess_model::SessionEnd;

pub(crate) fn offered(address: Option<Ipv4Addr>, boot_file: Option<&str>) -> String {
    let mut text = match address {
        Some(address) => format!("offered {address}"),
        None => "offered boot information".to_owned(),
    };
    if let Some(file) = boot_file {
        text.push_str(", boot file ");
        text.push_str(file);
    }
    text
}

pub(crate) fn acknowledged(address: Option<Ipv4Addr>) -> String {
    match address {
        Some(address) => format!("leased {address}"),
        None => "acknowledged boot information".to_owned(),
    }
}

pub(crate) fn ended_because(reason: SessionEnd) -> &'static str {
    match reason {
        SessionEnd::Logout => "logged out",
        SessionEnd::Closed => "closed by the client",
        SessionEnd::Reinstated => "replaced by a new login",
        SessionEnd::Dead => "the client no longer answered",
        SessionEnd::PowerOn => "the client powered on anew",
        SessionEnd::Administrative => "ended by the operator",
        SessionEnd::TargetReset => "the client reset its target",
        SessionEnd::Shutdown => "the iSCSI service stopped",
        SessionEnd::Protocol => "the client broke the protocol",
    }
}

pub(crate) fn transferred(file: &str, bytes: u64, duration_ms: u64, error: Option<&str>) -> String {
    match error {
        None => format!("TFTP {file}, {bytes} bytes in {duration_ms} ms"),
        Some(error) => format!("TFTP {file} failed after {bytes} bytes: {error}"),
    }
}
