//! Files and functions stay small; modules have names that say something.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Most lines of a source file; tests have none.
const FILE_LINES_MAX: usize = 600;
/// Most lines of a function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing about a module.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "common", "misc", "manager"];

pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "rs"))
    {
        let text = fs::read_to_string(root.join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let shown = file.display();
        if file
            .file_stem()
            .is_some_and(|stem| EMPTY_NAMES.iter().any(|name| stem == *name))
        {
            findings.push(format!("{shown}: the name says nothing; name the concept"));
        }
        if is_test(file) {
            continue;
        }
        let product: Vec<&str> = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .collect();
        if product.len() > FILE_LINES_MAX {
            findings.push(format!(
                "{shown}: {} lines, at most {FILE_LINES_MAX}; split by meaning",
                product.len()
            ));
        }
        findings.extend(long_functions(&product).into_iter().map(|(line, length)| {
            format!("{shown}:{line}: function of {length} lines, at most {FUNCTION_LINES_MAX}")
        }));
    }
    Ok(findings)
}

fn is_test(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem == "tests")
        || file.components().any(|part| part.as_os_str() == "tests")
}

/// Line numbers and lengths of functions over the limit. Relies on rustfmt: a function ends at the
/// first closing brace with the indent of its signature.
fn long_functions(lines: &[&str]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = &line[..line.len() - body.len()];
        if !is_function(body) || body.ends_with(';') {
            continue;
        }
        let end = lines[start..].iter().position(|line| {
            line.strip_prefix(indent)
                .is_some_and(|rest| rest == "}" || rest == ";")
        });
        let length = end.map_or(1, |end| end + 1);
        if length > FUNCTION_LINES_MAX {
            found.push((start + 1, length));
        }
    }
    found
}

fn is_function(body: &str) -> bool {
    let mut words = body.split_whitespace();
    words.find(|word| {
        !(word.starts_with("pub") || matches!(*word, "const" | "async" | "extern" | "\"C\""))
    }) == Some("fn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_found_and_a_short_one_is_not() {
        let mut text = String::from("impl A {\n    pub(crate) async fn long(&self) {\n");
        text.push_str(&"        step();\n".repeat(FUNCTION_LINES_MAX));
        text.push_str("    }\n\n    fn short() {\n    }\n}\n");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(long_functions(&lines), [(2, FUNCTION_LINES_MAX + 2)]);
    }
}
