//! CHAP names and secrets from a file, so that they are on no command line.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dess_model::Secret;
use dess_target::StandaloneChap;

/// Reads the initiator's line `NAME SECRET`, and the target's if there is a second one.
pub(crate) fn read(path: &Path) -> Result<StandaloneChap> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the CHAP secrets in {}", path.display()))?;
    parse(&text).with_context(|| format!("the CHAP secrets in {}", path.display()))
}

fn parse(text: &str) -> Result<StandaloneChap> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let initiator = lines.next().map(entry).transpose()?;
    let target = lines.next().map(entry).transpose()?;
    ensure!(lines.next().is_none(), "more than two lines");
    let initiator = initiator.context("no line with a name and a secret")?;
    // Who knows one of two equal secrets could answer with it in both directions.
    ensure!(
        target.as_ref().is_none_or(|target| target.1 != initiator.1),
        "initiator and target have the same secret"
    );
    Ok(StandaloneChap { initiator, target })
}

fn entry(line: &str) -> Result<(String, Secret)> {
    let (name, secret) = line
        .trim()
        .split_once(char::is_whitespace)
        .context("a line is not a name, a blank and a secret")?;
    Ok((name.to_owned(), Secret::new(secret.trim_start())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_the_initiators_and_a_second_one_the_targets() {
        let chap = parse("pc a-long-secret\n\nserver\tanother secret\n").unwrap();
        assert_eq!(chap.initiator, ("pc".into(), Secret::new("a-long-secret")));
        let target = ("server".into(), Secret::new("another secret"));
        assert_eq!(chap.target, Some(target));
        assert_eq!(parse("pc a-long-secret").unwrap().target, None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_a_secret_in_the_text() {
        for wrong in ["", "justname", "a same\nb same", "a x\nb y\nc zzz"] {
            let error = format!("{:#}", parse(wrong).unwrap_err());
            assert!(
                !error.contains("same\n") && !error.contains("zzz"),
                "{error}"
            );
        }
    }
}
