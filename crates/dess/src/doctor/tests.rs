use super::*;

#[test]
fn the_language_is_that_of_the_locale() {
    let with = |pairs: &'static [(&str, &str)]| {
        of_locale(move |name| {
            let pair = pairs.iter().find(|(known, _)| *known == name)?;
            Some(pair.1.to_owned())
        })
    };
    assert_eq!(with(&[("LANG", "ko_KR.UTF-8")]), Language::Korean);
    assert_eq!(with(&[("LANG", "C.UTF-8")]), Language::English);
    assert_eq!(with(&[]), Language::English);
    let both = with(&[("LC_ALL", "en_US.UTF-8"), ("LANG", "ko_KR.UTF-8")]);
    assert_eq!(both, Language::English);
    let empty = with(&[("LC_ALL", ""), ("LANG", "ko_KR.UTF-8")]);
    assert_eq!(empty, Language::Korean);
}
