use dess_node::supervisor::protocol::ServiceName;

use super::*;
use crate::catalog::Language;
use crate::sample;

fn rendered(language: Language, site: &Site, query: RoomQuery) -> String {
    let words = sample::wording(language);
    page(&words, site, &sample::member(language), query)
        .render()
        .unwrap()
}

/// The text between the tags, one line per piece.
fn text_of(html: &str) -> Vec<String> {
    let body = html.split("<body>").nth(1).unwrap();
    body.split('<')
        .filter_map(|piece| piece.split_once('>'))
        .map(|(_, text)| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect()
}

#[test]
fn the_room_in_both_languages_says_the_same_and_shows_no_key() {
    let site = sample::site(Some(ServiceName::Iscsi));
    let korean = text_of(&rendered(Language::Korean, &site, RoomQuery::default()));
    let english = text_of(&rendered(Language::English, &site, RoomQuery::default()));
    assert_eq!(korean.len(), english.len());
    let keys: Vec<_> = Language::English.catalog().entries();
    for text in korean.iter().chain(&english) {
        let is_key = keys.iter().any(|(key, _)| key.contains('_') && key == text);
        assert!(!is_key, "a raw key is shown: {text}");
        let placeholder = text.contains('{') && !text.contains("script");
        assert!(!placeholder, "a placeholder is not filled: {text}");
    }
    let shown = |texts: &[String], wanted: &str| texts.iter().any(|text| text.contains(wanted));
    for wanted in [
        "확인할 것이 4건 있습니다",
        "디스크 (iSCSI) 비정상",
        "07번 좌석 부팅 실패",
        "승인 대기 2대",
        "운영체제 시작",
    ] {
        assert!(shown(&korean, wanted), "{wanted}: {korean:?}");
    }
    for wanted in [
        "4 things need a look",
        "Disks (iSCSI): down",
        "Seat 07 failed to boot",
        "2 PCs wait for approval",
        "Operating system starts",
    ] {
        assert!(shown(&english, wanted), "{wanted}: {english:?}");
    }
    let hangul = |text: &String| text.chars().any(|letter| ('가'..='힣').contains(&letter));
    let foreign: Vec<_> = english.iter().filter(|text| hangul(text)).collect();
    assert_eq!(
        foreign,
        ["코리아 PC방", "한국어"],
        "only names are Korean in English"
    );
}

#[test]
fn a_hostile_name_stays_text_and_gets_no_token() {
    let site = sample::site(None);
    let html = rendered(Language::English, &site, RoomQuery::default());
    assert!(!html.contains("<script>alert"));
    assert!(!html.contains("<csrf>"), "every mark is replaced");
    assert!(
        html.contains("&#60;csrf&#62;"),
        "the name's own mark is text"
    );
    assert_eq!(
        html.matches("value=\"own-token\"").count(),
        4,
        "log out, the arrangement and two approvals"
    );
}

#[test]
fn no_state_is_told_by_colour_alone() {
    let site = sample::site(Some(ServiceName::Dhcp));
    let words = sample::wording(Language::English);
    let parts = room_parts(&words, &site, true);
    for part in parts
        .parts
        .iter()
        .filter(|part| part.id.starts_with("seat-"))
    {
        assert!(part.html.contains("<svg"), "a shape");
        let state = part
            .html
            .split("data-state=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let word = match state {
            "running" => "Running",
            "booting" => "Booting",
            "fault" => "Boot failed",
            "pending" => "Waiting",
            _ => "Off",
        };
        assert!(
            part.html.contains(&format!("<span>{word}</span>")),
            "{}",
            part.html
        );
    }
    assert!(parts.html("services").contains("Down"));
}

#[test]
fn a_quiet_room_says_that_everything_is_fine() {
    let mut site = sample::site(None);
    site.records
        .clients
        .retain(|client| client.state.key() == "running");
    let korean = rendered(Language::Korean, &site, RoomQuery::default());
    assert!(korean.contains("data-health=\"good\""));
    assert!(korean.contains("모두 정상입니다"));
    assert!(!korean.contains("data-matter"));
}

#[test]
fn many_faults_are_counted_instead_of_listed() {
    let mut site = sample::site(None);
    let faulty = sample::client(7);
    site.records.clients = (1..=30)
        .map(|seat| dess_node::operations::ClientView {
            seat,
            ..faulty.clone()
        })
        .collect();
    let html = rendered(Language::English, &site, RoomQuery::default());
    assert_eq!(html.matches("data-matter=\"fault\"").count(), 5);
    assert!(html.contains("25 more seats failed to boot"));
}

/// Most bytes that a page with all that belongs to it may have.
const PAGE_BYTES_MAX: usize = 300 << 10;

#[test]
fn a_room_of_300_seats_with_its_style_and_scripts_weighs_less_than_300_kib() {
    let mut site = sample::site(None);
    let seats: Vec<_> = (0..300_u32)
        .map(|at| dess_node::operations::ClientView {
            seat: at + 1,
            ..sample::client(1 + at % 22)
        })
        .collect();
    site.records.clients = seats;
    let html = rendered(Language::Korean, &site, RoomQuery::default());
    assert_eq!(html.matches("class=\"seat\"").count(), 300);
    let bytes = html.len() + crate::assets::weight();
    assert!(bytes < PAGE_BYTES_MAX, "{bytes}");
}
