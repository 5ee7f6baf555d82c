//! The room at a glance.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use dess_node::operations::Zone;
use serde::Deserialize;

use super::note::NoteQuery;
use super::show;
use crate::app::App;
use crate::catalog::Catalog;
use crate::frame::Frame;
use crate::parts::{CSRF_MARK, Parts, html};
use crate::problem::Problem;
use crate::site::{Site, Trouble};
use crate::view::{
    Chip, Floor, MAINTENANCE, Matter, Seat, ServiceRow, Verdict, chips, outline, service_rows,
    verdict,
};
use crate::visitor::{Member, RoomView};
use crate::wording::Wording;

#[derive(Template)]
#[template(path = "room.html")]
struct RoomPage {
    t: &'static Catalog,
    f: Frame,
    verdict: String,
    services: String,
    chips: String,
    seats: Vec<String>,
    zones: Vec<Zone>,
    planned: bool,
    may_operate: bool,
    empty: bool,
    has_image: bool,
    view: &'static str,
    query: String,
    none_shown: bool,
}

#[derive(Template)]
#[template(path = "part/services.html")]
pub(crate) struct ServicesPart<'a> {
    t: &'static Catalog,
    services: &'a [ServiceRow],
    linked: bool,
    /// How many are well.
    good: usize,
    /// All of them in one line, for narrow screens.
    brief: String,
    brief_icon: &'static str,
}

impl ServicesPart<'_> {
    /// The strip of the services; `linked` for those who may see more.
    pub(crate) fn render_html(
        t: &'static Catalog,
        services: &[ServiceRow],
        linked: bool,
    ) -> String {
        let good = services.iter().filter(|row| row.health == "good").count();
        let all_good = good == services.len();
        let brief = if all_good {
            t.services_all_good.with("n", good)
        } else {
            t.services_some_good
                .with("n", good)
                .with("m", services.len())
        };
        html(&ServicesPart {
            t,
            services,
            linked,
            good,
            brief: brief.into(),
            brief_icon: if all_good { "good" } else { "warn" },
        })
    }
}

#[derive(Template)]
#[template(path = "part/verdict.html")]
struct VerdictPart {
    health: &'static str,
    line: String,
    items: Vec<Matter>,
}

#[derive(Template)]
#[template(path = "part/chips.html")]
struct ChipsPart {
    t: &'static Catalog,
    chips: Vec<Chip>,
}

#[derive(Template)]
#[template(path = "part/seat.html")]
struct SeatPart {
    t: &'static Catalog,
    s: Seat,
    hidden: bool,
    may_operate: bool,
    csrf: &'static str,
}

/// What the ids of the seats start with.
const SEAT_PART: &str = "seat-";

/// The live parts of the room; `may_operate` for readers who may press its buttons.
pub(crate) fn room_parts(words: &Wording, site: &Site, may_operate: bool) -> Parts {
    let t = words.t;
    let services = service_rows(words, site.services.as_deref());
    let Verdict {
        health,
        line,
        items,
    } = verdict(t, site, &services);
    let mut parts = Parts {
        say: line.clone(),
        shape: outline(&site.records.plan) ^ u64::from(is_empty(site)),
        ..Parts::default()
    };
    parts.push(
        "verdict",
        html(&VerdictPart {
            health,
            line,
            items,
        }),
    );
    parts.push("services", ServicesPart::render_html(t, &services, true));
    parts.push("chips", chips_html(t, site, "all"));
    let mut order = Vec::with_capacity(site.records.clients.len());
    let floor = Floor::new(&site.records.plan, &site.records.clients);
    for client in &site.records.clients {
        let seat = Seat::new(words, client).on(&floor, client);
        let id = format!("{SEAT_PART}{}", seat.id);
        order.push(id.clone());
        parts.push(id, seat_html(t, seat, false, may_operate));
    }
    parts.seats = Some(order);
    parts
}

fn chips_html(t: &'static Catalog, site: &Site, current: &str) -> String {
    let chips = chips(t, &site.records, current);
    html(&ChipsPart { t, chips })
}

fn seat_html(t: &'static Catalog, s: Seat, hidden: bool, may_operate: bool) -> String {
    let csrf = CSRF_MARK;
    html(&SeatPart {
        t,
        s,
        hidden,
        may_operate,
        csrf,
    })
}

/// No client yet, and the database says so.
fn is_empty(site: &Site) -> bool {
    site.records.clients.is_empty() && site.records.trouble.is_none()
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct RoomQuery {
    state: Option<String>,
    q: Option<String>,
    view: Option<String>,
    #[serde(flatten)]
    note: NoteQuery,
}

/// `GET /`
pub(crate) async fn room(
    State(app): State<App>,
    member: Member,
    Query(query): Query<RoomQuery>,
) -> Result<Html<String>, Problem> {
    let words = app.wording(member.visitor.language);
    let site = app.feed.site().await;
    if let Some(Trouble::Database(cause)) = &site.records.trouble {
        tracing::error!(cause, "the database cannot be read");
    }
    show(&page(&words, &site, &member, query))
}

fn page(words: &Wording, site: &Site, member: &Member, query: RoomQuery) -> RoomPage {
    let t = words.t;
    let may_operate = member.may_operate();
    let parts = room_parts(words, site, may_operate);
    let records = &site.records;
    let wanted = query.state.as_deref().unwrap_or("all");
    let text = query.q.as_deref().unwrap_or_default().trim().to_lowercase();
    let floor = Floor::new(&records.plan, &records.clients);
    let mut shown = 0;
    let mut seats = Vec::with_capacity(records.clients.len());
    let rendered = parts.parts.iter();
    let rendered = rendered.filter(|part| part.id.starts_with(SEAT_PART));
    for (client, part) in records.clients.iter().zip(rendered) {
        let seat = Seat::new(words, client);
        let state =
            wanted == "all" || seat.state == wanted || (wanted == MAINTENANCE && seat.maintenance);
        let hit = state && seat.matches(&text);
        shown += usize::from(hit);
        let html = match hit {
            true => part.html.clone(),
            false => seat_html(t, seat.on(&floor, client), true, may_operate),
        };
        seats.push(html.replace(CSRF_MARK, member.form_token()));
    }
    let mut frame = Frame::of(words, member, records.name.as_deref(), "room");
    frame.live = Some(format!("/live/room?seen={}", parts.fingerprint()));
    let named = records
        .clients
        .iter()
        .find(|client| Some(client.id.to_string()) == query.note.on)
        .map(|client| client.name.clone());
    frame.note = query.note.note(t, named);
    RoomPage {
        t,
        verdict: parts.html("verdict"),
        services: parts.html("services"),
        chips: chips_html(t, site, wanted),
        none_shown: shown == 0 && !seats.is_empty(),
        seats,
        empty: is_empty(site),
        has_image: !records.images.is_empty(),
        planned: floor.is_planned(),
        may_operate,
        zones: floor.zones,
        view: query
            .view
            .as_deref()
            .and_then(RoomView::from_key)
            .or(member.visitor.room_view)
            .unwrap_or_default()
            .key(),
        query: query.q.unwrap_or_default(),
        f: frame,
    }
}

#[cfg(test)]
mod tests;
