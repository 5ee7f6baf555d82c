//! The live parts of a page: rendered once for the page and again for each change.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use askama::Template;
use serde::Serialize;

/// Stands for the reader's own token in parts that all readers of a language share. A raw `<`
/// never comes from data: the templates escape it.
pub(crate) const CSRF_MARK: &str = "<csrf>";

/// One element with an id.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) html: String,
}

/// All live elements of a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) parts: Vec<Part>,
    /// Ids of the seats in order, on the room's page.
    pub(crate) seats: Option<Vec<String>>,
    /// What a screen reader says when it changes.
    pub(crate) say: String,
    /// A page whose shape differs is loaded anew.
    pub(crate) shape: u64,
}

/// What changed, for the script.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Change {
    /// The server's clock in milliseconds.
    pub(crate) now: i64,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub(crate) set: HashMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seats: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) say: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) reload: bool,
}

/// What one browser shows.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    hashes: HashMap<String, u64>,
    seats: Option<Vec<String>>,
    say: String,
    shape: Option<u64>,
}

impl Parts {
    pub(crate) fn push(&mut self, id: impl Into<String>, html: String) {
        self.parts.push(Part {
            id: id.into(),
            html,
        });
    }

    /// Names the content; equal for equal content while the program runs.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for part in &self.parts {
            part.id.hash(&mut hasher);
            part.html.hash(&mut hasher);
        }
        self.shape.hash(&mut hasher);
        hasher.finish()
    }

    /// The HTML of a part; empty if there is none of this id.
    pub(crate) fn html(&self, id: &str) -> String {
        self.parts
            .iter()
            .find(|part| part.id == id)
            .map(|part| part.html.clone())
            .unwrap_or_default()
    }
}

impl Shown {
    /// Notes that the browser shows all of this already.
    pub(crate) fn assume(&mut self, parts: &Parts) {
        self.hashes = parts
            .parts
            .iter()
            .map(|part| (part.id.clone(), hash(&part.html)))
            .collect();
        self.seats.clone_from(&parts.seats);
        self.say.clone_from(&parts.say);
        self.shape = Some(parts.shape);
    }

    /// What the browser has to change to show `parts`; none if it does so already.
    pub(crate) fn change_to(&mut self, parts: &Parts, now: i64, csrf: &str) -> Option<Change> {
        let mut change = Change {
            now,
            ..Change::default()
        };
        change.reload = self.shape.is_some_and(|shape| shape != parts.shape);
        for part in &parts.parts {
            if self.hashes.get(&part.id) != Some(&hash(&part.html)) {
                change
                    .set
                    .insert(part.id.clone(), part.html.replace(CSRF_MARK, csrf));
            }
        }
        if self.seats != parts.seats {
            change.seats.clone_from(&parts.seats);
        }
        if self.say != parts.say {
            change.say = Some(parts.say.clone());
        }
        self.assume(parts);
        let nothing = change.set.is_empty() && change.seats.is_none() && change.say.is_none();
        (change.reload || !nothing).then_some(change)
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The HTML of a part. A part that cannot be rendered is logged and left out.
pub(crate) fn html(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot render a part of a page");
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pairs: &[(&str, &str)]) -> Parts {
        let mut parts = Parts::default();
        for (id, html) in pairs {
            parts.push(*id, (*html).to_owned());
        }
        parts.seats = Some(pairs.iter().map(|(id, _)| (*id).to_owned()).collect());
        parts
    }

    #[test]
    fn only_what_changed_is_sent_and_the_token_is_the_readers_own() {
        let mut shown = Shown::default();
        let first = parts(&[("a", "1"), ("b", "<csrf>")]);
        let all = shown.change_to(&first, 7, "secret").unwrap();
        assert_eq!(all.set["b"], "secret");
        assert_eq!(all.set.len(), 2);
        assert!(shown.change_to(&first, 8, "secret").is_none());
        let second = parts(&[("a", "2"), ("b", "<csrf>")]);
        let change = shown.change_to(&second, 9, "secret").unwrap();
        assert_eq!(change.set.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(change.seats, None);
        let third = parts(&[("b", "<csrf>")]);
        let change = shown.change_to(&third, 9, "secret").unwrap();
        assert!(change.set.is_empty());
        assert_eq!(change.seats.unwrap(), ["b"]);
    }

    #[test]
    fn a_page_of_another_shape_is_loaded_anew() {
        let mut shown = Shown::default();
        shown.assume(&parts(&[]));
        let mut next = parts(&[]);
        next.shape = 1;
        assert!(shown.change_to(&next, 0, "").unwrap().reload);
    }
}
