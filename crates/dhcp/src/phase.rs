//! Who speaks: PXE firmware, iPXE, or an operating system.

use dess_model::{Architecture, DhcpPhase};

use crate::message::Message;
use crate::option::{Options, code};

/// What firmware boots with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootClass {
    /// `PXEClient`: loads a file over TFTP.
    Pxe,
    /// `HTTPClient`: loads a URL (UEFI 2.5 HTTP boot).
    Http,
    /// UEFI's own iSCSI initiator: wants a root path and no file.
    Iscsi,
}

/// What a request tells about its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// Who speaks.
    pub phase: DhcpPhase,
    /// How firmware boots; none for an operating system and for iPXE without PXE marks.
    pub class: Option<BootClass>,
    /// Option 93.
    pub architecture: Option<Architecture>,
    /// SMBIOS UUID of option 97, type 0, as 32 hexadecimal digits in the order sent.
    pub uuid: Option<String>,
}

impl Requester {
    /// Judges a request by its options.
    pub fn of(message: &Message) -> Self {
        let options = &message.options;
        let told = options
            .first_u16(code::ARCHITECTURE)
            .map(Architecture::from);
        let class = boot_class(options, told);
        let architecture = told.or_else(|| architecture_of_vendor_class(options));
        let phase = if speaks_ipxe(options) {
            DhcpPhase::Ipxe
        } else if class.is_some() {
            DhcpPhase::Firmware
        } else {
            DhcpPhase::Os
        };
        Self {
            phase,
            class,
            architecture,
            uuid: machine_uuid(options),
        }
    }

    /// True for firmware and iPXE.
    pub fn boots(&self) -> bool {
        self.phase != DhcpPhase::Os
    }
}

/// iPXE names itself in the user class (RFC 3004 form or raw) or brings its own option space. Its
/// ROM and the `undionly.kpxe` loaded by it look the same here; both get the script.
fn speaks_ipxe(options: &Options) -> bool {
    options.contains(code::IPXE) || options.value(code::USER_CLASS).is_some_and(names_ipxe)
}

fn names_ipxe(user_class: &[u8]) -> bool {
    // Seen: iPXE sends the bare text, against RFC 3004.
    if user_class == b"iPXE" {
        return true;
    }
    let mut rest = user_class;
    while let Some((&length, after)) = rest.split_first() {
        let Some((instance, next)) = after.split_at_checked(usize::from(length)) else {
            return false;
        };
        if instance == b"iPXE" {
            return true;
        }
        rest = next;
    }
    false
}

fn boot_class(options: &Options, architecture: Option<Architecture>) -> Option<BootClass> {
    let vendor = options.value(code::VENDOR_CLASS).unwrap_or_default();
    if vendor.starts_with(b"HTTPClient") {
        return Some(BootClass::Http);
    }
    if vendor.starts_with(b"PXEClient") {
        return Some(BootClass::Pxe);
    }
    match architecture {
        Some(architecture) if architecture.is_http() => Some(BootClass::Http),
        Some(_) => Some(BootClass::Pxe),
        None => is_uefi_initiator(options).then_some(BootClass::Iscsi),
    }
}

/// `PXEClient:Arch:00007:...`; a PXE ROM that tells nothing is an old BIOS one (RFC 4578 §3).
fn architecture_of_vendor_class(options: &Options) -> Option<Architecture> {
    let vendor = std::str::from_utf8(options.value(code::VENDOR_CLASS)?).ok()?;
    let mut parts = vendor.split(':');
    let class = parts.next()?;
    let number = match (parts.next(), parts.next()) {
        (Some("Arch"), Some(number)) => number.parse::<u16>().ok(),
        _ => None,
    };
    match class {
        "PXEClient" => Some(number.map_or(Architecture::Bios, Architecture::from)),
        "HTTPClient" => number.map(Architecture::from),
        _ => None,
    }
}

/// Seen: EDK2's iSCSI initiator sends no option 60 or 93 and asks for 1, 3, 6 and 17 only. An
/// operating system that asks for the root path also asks for host or domain name or broadcast.
fn is_uefi_initiator(options: &Options) -> bool {
    let wanted = options.value(code::PARAMETER_LIST).unwrap_or_default();
    let of_systems = [code::HOST_NAME, code::DOMAIN_NAME, code::BROADCAST_ADDRESS];
    wanted.contains(&code::ROOT_PATH)
        && !options.contains(code::VENDOR_CLASS)
        && !options.contains(code::HOST_NAME)
        && !of_systems.iter().any(|code| wanted.contains(code))
}

fn machine_uuid(options: &Options) -> Option<String> {
    let [0, uuid @ ..] = options.value(code::MACHINE_IDENTIFIER)? else {
        return None;
    };
    (uuid.len() == 16).then(|| uuid.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[(u8, &[u8])]) -> Options {
        let mut options = Options::default();
        for (code, value) in list {
            options.set(*code, *value);
        }
        options
    }

    #[test]
    fn ipxe_is_known_by_either_form_of_its_user_class_and_by_option_175() {
        assert!(speaks_ipxe(&options(&[(77, b"iPXE")])));
        assert!(speaks_ipxe(&options(&[(77, b"\x04iPXE")])));
        assert!(speaks_ipxe(&options(&[(77, b"\x03abc\x04iPXE")])));
        assert!(speaks_ipxe(&options(&[(175, b"")])));
        assert!(!speaks_ipxe(&options(&[(77, b"\x09iPXE")])));
        assert!(!speaks_ipxe(&options(&[(77, b"")])));
        assert!(!speaks_ipxe(&options(&[(60, b"PXEClient")])));
    }

    #[test]
    fn firmware_is_known_by_vendor_class_architecture_or_the_initiators_short_wish_list() {
        let class = |list: &[(u8, &[u8])]| {
            let options = options(list);
            let architecture = options.first_u16(93).map(Architecture::from);
            boot_class(&options, architecture)
        };
        let pxe = b"PXEClient:Arch:00000:UNDI:002001";
        assert_eq!(class(&[(60, pxe)]), Some(BootClass::Pxe));
        assert_eq!(
            class(&[(60, b"HTTPClient:Arch:00016:UNDI:003001")]),
            Some(BootClass::Http)
        );
        assert_eq!(class(&[(93, &[0, 16])]), Some(BootClass::Http));
        assert_eq!(class(&[(93, &[0, 7, 0, 9])]), Some(BootClass::Pxe));
        assert_eq!(class(&[(55, &[1, 3, 6, 17])]), Some(BootClass::Iscsi));
        // dhclient, udhcpc, Windows, klibc's ipconfig.
        assert_eq!(class(&[(55, &[1, 28, 2, 3, 15, 6, 119, 12])]), None);
        assert_eq!(
            class(&[(55, &[1, 3, 6, 12, 15, 28, 42]), (60, b"udhcp 1.35")]),
            None
        );
        assert_eq!(
            class(&[(60, b"MSFT 5.0"), (55, &[1, 3, 6, 15, 31, 33])]),
            None
        );
        assert_eq!(class(&[(55, &[1, 3, 6, 12, 15, 17, 26, 28, 40])]), None);
        assert_eq!(class(&[]), None);
    }

    #[test]
    fn the_machine_identifier_is_shown_only_in_the_form_that_pxe_defines() {
        let uuid = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        assert_eq!(
            machine_uuid(&options(&[(97, &uuid)])).as_deref(),
            Some("0102030405060708090a0b0c0d0e0f10")
        );
        assert_eq!(machine_uuid(&options(&[(97, &uuid[..16])])), None);
        assert_eq!(machine_uuid(&options(&[(97, &[])])), None);
    }
}
