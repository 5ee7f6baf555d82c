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

/// Writes pages for a look in a browser: `DESS_PREVIEW=<directory> cargo nextest run --run-ignored all preview`.
#[test]
#[ignore = "writes files for people"]
fn preview() {
    let Ok(directory) = std::env::var("DESS_PREVIEW") else {
        return;
    };
    for language in Language::ALL {
        for (name, site) in [
            ("good", sample::site(None)),
            ("down", sample::site(Some(ServiceName::Iscsi))),
        ] {
            let path = format!("{directory}/{name}-{}.html", language.code());
            std::fs::write(path, rendered(language, &site, RoomQuery::default())).unwrap();
        }
        let query = RoomQuery {
            view: Some("list".into()),
            ..RoomQuery::default()
        };
        let path = format!("{directory}/list-{}.html", language.code());
        std::fs::write(path, rendered(language, &sample::site(None), query)).unwrap();
    }
}
