//! Dependencies between our crates point down only.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::program::cargo;

/// Our crates from the bottom up. A crate may depend only on those before it.
const LAYERS: [&str; 17] = [
    "dess-model",
    "dess-http",
    "dess-boot",
    "dess-diagnosis",
    "dess-dhcp",
    "dess-tftp",
    "dess-scsi",
    "dess-iscsi",
    "dess-disk",
    "dess-target",
    "dess-probe",
    "dess-store",
    "dess-node",
    "dess-web",
    "dess",
    "dess-lab",
    "xtask",
];

/// Crates that must not name a runtime or a system interface, unless behind a feature.
const PURE: [&str; 7] = [
    "dess-model",
    "dess-boot",
    "dess-diagnosis",
    "dess-dhcp",
    "dess-tftp",
    "dess-scsi",
    "dess-iscsi",
];

/// What a pure crate may not depend on without a feature.
const IMPURE: [&str; 7] = [
    "axum",
    "nix",
    "rand",
    "rustix",
    "socket2",
    "tokio",
    "tokio-util",
];

/// Edges that are allowed besides the order: none so far.
const SIDEWAYS: [(&str, &str); 0] = [];

pub(super) fn check() -> Result<Vec<String>> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata: packages")?;
    Ok(packages.iter().flat_map(check_package).collect())
}

fn check_package(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(level) = level(name) else {
        return vec![format!(
            "crate {name} has no layer; add it to LAYERS in xtask"
        )];
    };
    let dependencies = package["dependencies"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let normal = dependencies
        .iter()
        .filter(|dependency| dependency["kind"].is_null());
    normal
        .filter_map(|dependency| finding(name, level, dependency))
        .collect()
}

fn finding(name: &str, level: usize, dependency: &Value) -> Option<String> {
    let other = dependency["name"].as_str()?;
    if self::level(other).is_some_and(|below| below >= level) && !SIDEWAYS.contains(&(name, other))
    {
        return Some(format!(
            "crate {name} must not depend on {other}: dependencies point down"
        ));
    }
    let optional = dependency["optional"].as_bool().unwrap_or(false);
    if PURE.contains(&name) && IMPURE.contains(&other) && !optional {
        return Some(format!(
            "crate {name} is pure: {other} only behind its feature"
        ));
    }
    None
}

fn level(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == name)
}
