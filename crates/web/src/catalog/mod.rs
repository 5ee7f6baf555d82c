//! The texts of the pages in Korean and English.
//!
//! A catalog is a struct with one field per phrase, so the compiler proves that both languages
//! have the same keys and that a template names no key that does not exist.

mod accounts;
mod cases;
mod en;
mod keys;
mod ko;
mod phrase;

pub(crate) use accounts::Accounts;
pub(crate) use cases::Cases;
pub(crate) use keys::Catalog;
pub(crate) use phrase::{Filled, Phrase};

macro_rules! phrases {
    (
        $(#[$doc:meta])* $name:ident { $($key:ident,)* }
        parts { $($part:ident: $phrases:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $(pub(crate) $key: $crate::catalog::Phrase,)*
            $(pub(crate) $part: $phrases,)*
        }

        impl $name {
            /// Each key with its phrase.
            #[cfg(test)]
            pub(crate) fn entries(&self) -> Vec<(&'static str, $crate::catalog::Phrase)> {
                let own = [$((stringify!($key), self.$key),)*];
                own.into_iter()$(.chain(self.$part.entries()))*.collect()
            }
        }
    };
}
use phrases;

/// A language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// 한국어.
    Korean,
    /// English.
    English,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::Korean, Self::English];

    /// The BCP 47 tag.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Korean => "ko",
            Self::English => "en",
        }
    }

    pub(crate) fn from_code(code: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|language| language.code() == code)
    }

    /// The one to switch to.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Korean => Self::English,
            Self::English => Self::Korean,
        }
    }

    /// What its speakers call it.
    pub(crate) fn own_name(self) -> &'static str {
        match self {
            Self::Korean => "한국어",
            Self::English => "English",
        }
    }

    pub(crate) fn catalog(self) -> &'static Catalog {
        match self {
            Self::Korean => &ko::CATALOG,
            Self::English => &en::CATALOG,
        }
    }

    /// The best match of an `Accept-Language` header (RFC 9110 §12.5.4); English if none fits.
    pub(crate) fn negotiate(header: &str) -> Self {
        let mut best: Option<(f32, Self)> = None;
        for choice in header.split(',').take(CHOICES_MAX) {
            let mut parts = choice.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let quality = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1.0, |text| text.parse().unwrap_or(0.0));
            let primary = tag.split('-').next().unwrap_or_default();
            let found = Self::from_code(&primary.to_ascii_lowercase());
            if let Some(language) = found
                && quality > best.map_or(0.0, |(highest, _)| highest)
            {
                best = Some((quality, language));
            }
        }
        best.map_or(Self::English, |(_, language)| language)
    }
}

/// Most choices of an `Accept-Language` header that are looked at.
const CHOICES_MAX: usize = 16;

#[cfg(test)]
mod tests;
