//! What is looked at of a Windows on an imported disk, offline: its build, its page file, when the drivers of its network cards start.

mod hive;
mod index;
mod record;
mod runs;
mod volume;

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::lint::{Finding, Read};
use crate::format::HeaderError;
use hive::{Hive, Key};
use volume::Volume;

const SYSTEM: [&str; 4] = ["Windows", "System32", "config", "SYSTEM"];
const SOFTWARE: [&str; 4] = ["Windows", "System32", "config", "SOFTWARE"];
const CURRENT_VERSION: [&str; 3] = ["Microsoft", "Windows NT", "CurrentVersion"];
const MEMORY: [&str; 3] = ["Control", "Session Manager", "Memory Management"];
/// Devices of this class are network cards.
const NETWORK_CLASS: &str = "{4d36e972-e325-11ce-bfc1-08002be10318}";
/// First build of Windows 11, which still calls itself Windows 10 in the registry.
const WINDOWS_11: u32 = 22_000;
/// In a driver's `BootFlags`: Windows starts it at boot when it was booted over the network (`CM_SERVICE_NETWORK_BOOT_LOAD`).
const NETWORK_BOOT_LOAD: u32 = 1;
/// Most drivers that are told.
const DRIVERS_MAX: usize = 64;

/// A Windows on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WindowsSeen {
    /// What it calls itself, for instance `Windows 11 Pro`.
    pub name: String,
    /// Its build, for instance 22631.
    pub build: Option<u32>,
    /// What was added to the build by updates.
    pub revision: Option<u32>,
    /// Where it puts page files, as the registry says it; empty if nowhere.
    pub page_files: String,
    /// The drivers of the network cards that it has met.
    pub network_drivers: Vec<NetworkDriver>,
}

/// A driver of a network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkDriver {
    /// Name of the service.
    pub service: String,
    /// When it starts.
    pub start: DriverStart,
}

/// When Windows starts a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DriverStart {
    /// With the kernel.
    Boot,
    /// With the kernel if Windows was booted over the network.
    NetworkBoot,
    /// After the kernel: too late for a disk behind the card.
    Later,
    /// Never.
    Disabled,
}

impl fmt::Display for DriverStart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Boot => "at boot",
            Self::NetworkBoot => "at boot over the network",
            Self::Later => "after boot",
            Self::Disabled => "never",
        })
    }
}

impl fmt::Display for WindowsSeen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)?;
        match (self.build, self.revision) {
            (None, _) => Ok(()),
            (Some(build), None) => write!(formatter, ", build {build}"),
            (Some(build), Some(revision)) => write!(formatter, ", build {build}.{revision}"),
        }
    }
}

/// A file system or registry that cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The disk cannot be read.
    #[error("cannot read the disk")]
    Read(#[source] io::Error),
    /// It is not as it should be.
    #[error("{0}")]
    Damaged(&'static str),
    /// A table of it is cut off.
    #[error(transparent)]
    Table(#[from] HeaderError),
    /// It takes too long.
    #[error("its tables lead in circles")]
    Endless,
}

/// Looks for a Windows in the part of the disk from `start` to `end`.
pub(super) fn look(
    read: Read<'_>,
    start: u64,
    end: u64,
) -> Result<Option<WindowsSeen>, Unreadable> {
    let Some(volume) = Volume::open(read, start, end)? else {
        return Ok(None);
    };
    let Some(system) = volume.file(&SYSTEM)? else {
        return Ok(None);
    };
    let (system, root) = Hive::open(&volume, system)?;
    let Some(control) = control_set(&system, &root)? else {
        return Err(Unreadable::Damaged(
            "its registry does not say how it starts",
        ));
    };
    let mut seen = WindowsSeen {
        name: "Windows".to_owned(),
        build: None,
        revision: None,
        page_files: String::new(),
        network_drivers: network_drivers(&system, &control)?,
    };
    if let Some(memory) = system.key(&control, &MEMORY)? {
        seen.page_files = system.text(&memory, "PagingFiles")?.unwrap_or_default();
    }
    if let Some(software) = volume.file(&SOFTWARE)? {
        let (software, root) = Hive::open(&volume, software)?;
        if let Some(current) = software.key(&root, &CURRENT_VERSION)? {
            tell_build(&mut seen, &software, &current)?;
        }
    }
    Ok(Some(seen))
}

/// What people should know of a Windows.
pub(super) fn findings(seen: &WindowsSeen) -> impl Iterator<Item = Finding> {
    let paging = (!seen.page_files.is_empty()).then(|| Finding::PageFile {
        setting: seen.page_files.clone(),
    });
    let late = seen.network_drivers.iter().filter_map(|driver| {
        let late = matches!(driver.start, DriverStart::Later | DriverStart::Disabled);
        late.then(|| Finding::NetworkDriverNotAtBoot {
            service: driver.service.clone(),
            start: driver.start,
        })
    });
    paging.into_iter().chain(late)
}

/// The settings with which Windows starts the next time.
fn control_set(system: &Hive<'_>, root: &Key) -> Result<Option<Key>, Unreadable> {
    let Some(select) = system.key(root, &["Select"])? else {
        return Ok(None);
    };
    let number = system.number(&select, "Default")?;
    let number = number.or(system.number(&select, "Current")?).unwrap_or(1);
    system.key(root, &[&format!("ControlSet{number:03}")])
}

/// The drivers of all network cards on the PCI bus that Windows has met.
fn network_drivers(system: &Hive<'_>, control: &Key) -> Result<Vec<NetworkDriver>, Unreadable> {
    let Some(devices) = system.key(control, &["Enum", "PCI"])? else {
        return Ok(Vec::new());
    };
    let mut services: Vec<String> = Vec::new();
    system.each_subkey(&devices, &mut |device| {
        system.each_subkey(&device, &mut |place| {
            let class = system.text(&place, "ClassGUID")?.unwrap_or_default();
            if class.eq_ignore_ascii_case(NETWORK_CLASS)
                && let Some(service) = system.text(&place, "Service")?
                && !services.contains(&service)
            {
                services.push(service);
            }
            Ok(services.len() < DRIVERS_MAX)
        })?;
        Ok(services.len() < DRIVERS_MAX)
    })?;
    services.sort();
    let mut drivers = Vec::with_capacity(services.len());
    for service in services {
        if let Some(key) = system.key(control, &["Services", &service])? {
            let start = driver_start(system, &key)?;
            drivers.push(NetworkDriver { service, start });
        }
    }
    Ok(drivers)
}

fn driver_start(system: &Hive<'_>, service: &Key) -> Result<DriverStart, Unreadable> {
    let flags = system.number(service, "BootFlags")?.unwrap_or(0);
    Ok(match system.number(service, "Start")? {
        Some(0) => DriverStart::Boot,
        Some(4) => DriverStart::Disabled,
        _ if flags & NETWORK_BOOT_LOAD != 0 => DriverStart::NetworkBoot,
        _ => DriverStart::Later,
    })
}

fn tell_build(
    seen: &mut WindowsSeen,
    software: &Hive<'_>,
    current: &Key,
) -> Result<(), Unreadable> {
    let build = match software.text(current, "CurrentBuildNumber")? {
        Some(build) => Some(build),
        None => software.text(current, "CurrentBuild")?,
    };
    seen.build = build.and_then(|build| build.parse().ok());
    seen.revision = software.number(current, "UBR")?;
    if let Some(name) = software.text(current, "ProductName")? {
        let client = software.text(current, "InstallationType")?.as_deref() == Some("Client");
        seen.name = match seen.build {
            Some(build) if build >= WINDOWS_11 && client => {
                name.replace("Windows 10", "Windows 11")
            }
            _ => name,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests;
