use super::Language::{English, Korean};
use super::*;

#[test]
fn both_languages_have_the_same_keys_and_placeholders() {
    let korean = Korean.catalog().entries();
    let english = English.catalog().entries();
    assert_eq!(korean.len(), english.len());
    for ((key, ko), (other, en)) in korean.into_iter().zip(english) {
        assert_eq!(key, other);
        assert_eq!(
            ko.placeholders(),
            en.placeholders(),
            "placeholders of {key}"
        );
    }
}

#[test]
fn no_phrase_is_empty_and_korean_is_korean() {
    let without_hangul = ["millis"];
    for (key, phrase) in Korean.catalog().entries() {
        let hangul = phrase
            .to_string()
            .chars()
            .any(|letter| ('가'..='힣').contains(&letter));
        assert!(hangul || without_hangul.contains(&key), "{key}: {phrase}");
    }
    for (key, phrase) in English.catalog().entries() {
        assert!(!phrase.to_string().trim().is_empty(), "{key}");
        assert!(
            phrase.to_string().is_ascii() || phrase.to_string().contains('·'),
            "{key}: {phrase}"
        );
    }
}

#[test]
fn the_browsers_first_known_language_wins() {
    for (header, expected) in [
        ("ko-KR,ko;q=0.9,en-US;q=0.8", Korean),
        ("en-US,en;q=0.9,ko;q=0.8", English),
        ("ja,ko;q=0.5,en;q=0.4", Korean),
        ("fr-FR", English),
        ("ko;q=0", English),
        ("", English),
        (";;;,,q=9,\u{0}", English),
        ("KO", Korean),
    ] {
        assert_eq!(Language::negotiate(header), expected, "{header}");
    }
}

#[test]
fn a_value_with_braces_does_not_eat_another_placeholder() {
    let text = English
        .catalog()
        .refused_taken
        .with("field", "seat")
        .with("owner", "PC")
        .with("value", "{owner}");
    assert_eq!(text.to_string(), "seat {owner} is already used by PC.");
}
