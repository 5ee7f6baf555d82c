//! A phrase with named placeholders.

use std::fmt;

/// A text of a catalog; `{name}` stands for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phrase(pub(super) &'static str);

/// A phrase with values put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filled(String);

impl Phrase {
    /// The phrase with a value in place of `{name}`.
    pub(crate) fn with(self, name: &str, value: impl fmt::Display) -> Filled {
        Filled(self.0.to_owned()).with(name, value)
    }

    /// The names of the placeholders, sorted.
    #[cfg(test)]
    pub(crate) fn placeholders(self) -> Vec<&'static str> {
        let mut names: Vec<_> = self
            .0
            .split('{')
            .skip(1)
            .map(|rest| rest.split('}').next().unwrap_or_default())
            .collect();
        names.sort_unstable();
        names
    }
}

impl Filled {
    /// One more value. Call it for the program's own values first: a value that a person chose
    /// may itself contain braces.
    pub(crate) fn with(self, name: &str, value: impl fmt::Display) -> Self {
        Self(
            self.0
                .replacen(&format!("{{{name}}}"), &value.to_string(), 1),
        )
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Phrase> for String {
    fn from(phrase: Phrase) -> Self {
        phrase.0.to_owned()
    }
}

impl From<Filled> for String {
    fn from(filled: Filled) -> Self {
        filled.0
    }
}
