//! Links between our documents lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "md"))
    {
        let text = fs::read_to_string(root.join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let directory = root.join(file).parent().unwrap_or(root).to_owned();
        for target in relative_links(&text) {
            if !directory.join(target).exists() {
                findings.push(format!(
                    "{}: the link to {target} leads nowhere",
                    file.display()
                ));
            }
        }
    }
    Ok(findings)
}

/// Link targets that are files of ours, without their fragments.
fn relative_links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        let ours = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
        ours.then_some(target)
    })
}
