//! Users, sessions, tokens and lines of the audit log in words.

use dess_model::{Role, Scope, Timestamp};
use dess_node::operations::{AuditView, OpenSession, TokenView, UserView};
use serde_json::Value;

use crate::catalog::{Catalog, Phrase};
use crate::wording::{Moment, Wording};

/// What a role is called.
pub(crate) fn role_word(t: &Catalog, role: Role) -> Phrase {
    match role {
        Role::Viewer => t.accounts.role_viewer,
        Role::Operator => t.accounts.role_operator,
        Role::Owner => t.accounts.role_owner,
    }
}

/// What a token of this scope may do.
pub(crate) fn scope_word(t: &Catalog, scope: Scope) -> Phrase {
    match scope {
        Scope::Read => t.accounts.scope_read,
        Scope::Operate => t.accounts.scope_operate,
        Scope::Admin => t.accounts.scope_admin,
    }
}

/// A user on a page.
#[derive(Clone, Debug)]
pub(crate) struct UserRow {
    pub(crate) name: String,
    pub(crate) role_key: &'static str,
    pub(crate) role: Phrase,
    pub(crate) disabled: bool,
    pub(crate) second_factor: bool,
    pub(crate) created: Moment,
    pub(crate) last_login: Option<Moment>,
}

impl UserRow {
    pub(crate) fn new(words: &Wording, user: &UserView) -> Self {
        Self {
            name: user.name.clone(),
            role_key: user.role.as_str(),
            role: role_word(words.t, user.role),
            disabled: user.disabled,
            second_factor: user.second_factor,
            created: words.moment(user.created),
            last_login: user.last_login.map(|at| words.moment(at)),
        }
    }
}

/// One of a user's sessions.
#[derive(Clone, Debug)]
pub(crate) struct SessionRow {
    pub(crate) id: String,
    pub(crate) own: bool,
    pub(crate) peer: String,
    pub(crate) browser: String,
    pub(crate) since: Moment,
}

impl SessionRow {
    pub(crate) fn new(words: &Wording, session: OpenSession, own: &str) -> Self {
        Self {
            own: session.id == own,
            browser: browser(&session.agent),
            since: words.moment(session.created),
            peer: session.peer,
            id: session.id,
        }
    }
}

/// Browser and system of a `User-Agent`, as far as people know them; `–` for anything else.
fn browser(agent: &str) -> String {
    // In this order: Edge calls itself Chrome, Chrome calls itself Safari.
    const BROWSERS: [(&str, &str); 6] = [
        ("Edg", "Edge"),
        ("Whale/", "Whale"),
        ("SamsungBrowser", "Samsung Internet"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 6] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(mark, _)| agent.contains(mark));
        found.map(|(_, name)| *name)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} · {system}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => "–".to_owned(),
    }
}

/// An API token on a page.
#[derive(Clone, Debug)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scope: Phrase,
    pub(crate) expired: bool,
    pub(crate) expires: Option<Moment>,
    pub(crate) last_used: Option<Moment>,
}

impl TokenRow {
    pub(crate) fn new(words: &Wording, token: TokenView) -> Self {
        Self {
            scope: scope_word(words.t, token.scope),
            expired: token.expires.is_some_and(|end| end <= words.now),
            expires: token.expires.map(|end| words.moment(end)),
            last_used: token.last_used.map(|at| words.moment(at)),
            id: token.id,
            name: token.name,
        }
    }
}

/// A line of the audit log.
#[derive(Clone, Debug)]
pub(crate) struct AuditRow {
    pub(crate) at: Moment,
    pub(crate) actor: String,
    pub(crate) origin: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    /// Field, as it was, as it is.
    pub(crate) changes: Vec<(String, String, String)>,
    /// What else is known, as JSON.
    pub(crate) details: Option<String>,
}

impl AuditRow {
    pub(crate) fn new(words: &Wording, line: &AuditView) -> Self {
        let mut changes = changes(&line.details);
        changes.retain(|(_, before, after)| before != after);
        for (field, before, after) in &mut changes {
            if field == "expires" {
                for text in [before, after] {
                    if let Ok(at) = text.parse() {
                        *text = words.moment(Timestamp(at)).text;
                    }
                }
            }
        }
        let said = !changes.is_empty() || matches!(&line.details, Value::Object(o) if o.is_empty());
        Self {
            at: words.moment(line.at),
            actor: line.actor.clone(),
            origin: line.origin.clone(),
            action: line.action.clone(),
            subject: line.subject.clone(),
            details: (!said).then(|| line.details.to_string()),
            changes,
        }
    }
}

/// The fields of `before` and `after`.
fn changes(details: &Value) -> Vec<(String, String, String)> {
    let plain = |name: &str| details.get(name).filter(|value| !value.is_object());
    if let (Some(before), Some(after)) = (plain("before"), plain("after")) {
        return vec![(
            String::new(),
            plain_text(Some(before)),
            plain_text(Some(after)),
        )];
    }
    let side = |name: &str| details.get(name).and_then(Value::as_object);
    let (before, after) = (side("before"), side("after"));
    let mut fields: Vec<&String> = before.iter().chain(&after).flat_map(|o| o.keys()).collect();
    fields.sort();
    fields.dedup();
    let text = |side: Option<&serde_json::Map<String, Value>>, field: &str| {
        plain_text(side.and_then(|fields| fields.get(field)))
    };
    fields
        .into_iter()
        .map(|field| (field.clone(), text(before, field), text(after, field)))
        .collect()
}

/// A value for people, as far as it is one for them.
fn plain_text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_browser_is_called_what_people_call_it() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36 Edg/150.0",
                "Edge · Windows",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox · Linux",
            ),
            ("curl/8", "–"),
        ] {
            assert_eq!(browser(agent), name);
        }
    }

    #[test]
    fn a_change_is_told_field_by_field() {
        let details =
            json!({"before": {"seat": 1, "name": "a"}, "after": {"seat": 2, "image": null}});
        let expected = [("image", "–", "–"), ("name", "a", "–"), ("seat", "1", "2")];
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(changes(&details), expected);
        let plain = changes(&json!({"before": "auto", "after": "hold"}));
        assert_eq!(
            plain,
            [(String::new(), "auto".to_owned(), "hold".to_owned())]
        );
        assert!(changes(&json!({"rows": 7})).is_empty());
    }
}
