//! What a line of the audit log says besides who and what: the fields that changed, and no secret.

use serde_json::{Map, Value, json};

/// Words in the name of a field that holds something that nobody may read.
const SECRET_WORDS: [&str; 6] = [
    "password",
    "secret",
    "token_hash",
    "csrf",
    "chap",
    "private",
];

/// The fields that differ, as they were and as they are:
/// `{"before": {"role": "viewer"}, "after": {"role": "operator"}}`.
pub(super) fn differences(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return json!({ "before": before, "after": after });
    };
    let only = |mine: &Map<String, Value>, other: &Map<String, Value>| {
        let differs = |(key, value): &(&String, &Value)| other.get(*key) != Some(value);
        let kept = mine.iter().filter(differs);
        kept.map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Map<_, _>>()
    };
    json!({ "before": only(old, new), "after": only(new, old) })
}

/// The details without what a field of a secret's name holds.
pub(super) fn redacted(details: Value) -> Value {
    match details {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| {
                    let is_secret = SECRET_WORDS.iter().any(|word| key.contains(word));
                    let hidden = is_secret && !matches!(value, Value::Bool(_) | Value::Null);
                    let value = if hidden {
                        json!("***")
                    } else {
                        redacted(value)
                    };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(redacted).collect()),
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        let before = json!({"name": "a", "seat": 1, "gone": true});
        let after = json!({"name": "a", "seat": 2, "new": null});
        let expected = json!({
            "before": {"seat": 1, "gone": true},
            "after": {"seat": 2, "new": null},
        });
        assert_eq!(differences(&before, &after), expected);
    }

    #[test]
    fn no_secret_stays_however_deep() {
        let details = json!({
            "after": [{"chap_secret": "s1", "password_hash": "s2", "secret_shown": true}],
            "name": "kept",
        });
        let text = redacted(details).to_string();
        assert!(!text.contains("s1") && !text.contains("s2"), "{text}");
        assert!(
            text.contains("kept") && text.contains("\"secret_shown\":true"),
            "{text}"
        );
    }
}
