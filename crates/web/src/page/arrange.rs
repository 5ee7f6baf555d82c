//! The plan of the room as its page sends it.

use axum::extract::State;
use axum::response::Redirect;
use dess_node::operations::{FloorPlan, SeatPlace, Zone};
use serde::Deserialize;

use crate::app::App;
use crate::problem::Problem;
use crate::visitor::Signed;

/// The plan as lines of text: short, so that a large room fits a form.
#[derive(Debug, Deserialize)]
pub(crate) struct Arranged {
    /// A line for each seat: client, column, row.
    seats: String,
    /// A line for each area: column, row, width, height, name.
    zones: String,
}

impl Arranged {
    fn plan(&self) -> Option<FloorPlan> {
        Some(FloorPlan {
            seats: lines(&self.seats).map(seat).collect::<Option<_>>()?,
            zones: lines(&self.zones).map(zone).collect::<Option<_>>()?,
        })
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn seat(line: &str) -> Option<SeatPlace> {
    let mut words = line.split(' ');
    Some(SeatPlace {
        client: words.next()?.parse().ok()?,
        column: words.next()?.parse().ok()?,
        row: words.next()?.parse().ok()?,
    })
}

fn zone(line: &str) -> Option<Zone> {
    let mut words = line.splitn(5, ' ');
    let mut number = || words.next()?.parse().ok();
    Some(Zone {
        column: number()?,
        row: number()?,
        width: number()?,
        height: number()?,
        name: words.next()?.trim().to_owned(),
    })
}

/// `POST /room/plan`
pub(crate) async fn arrange(
    State(app): State<App>,
    Signed { member, form }: Signed<Arranged>,
) -> Result<Redirect, Problem> {
    let plan = form.plan().ok_or(Problem::Malformed)?;
    member.operations(&app).floor_plan_set(plan).await?;
    Ok(Redirect::to("/?done=arranged&view=map"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_from_its_lines_and_nothing_else_is() {
        let id = "0195f000-0000-7000-8000-000000000001";
        let sent = |seats: String, zones: &str| {
            let zones = zones.to_owned();
            Arranged { seats, zones }.plan()
        };
        let plan = sent(format!("{id} 3 2\r\n"), "1 1 4 2 창가 쪽\r\n\r\n").unwrap();
        assert_eq!((plan.seats[0].column, plan.seats[0].row), (3, 2));
        assert_eq!(plan.zones[0].name, "창가 쪽");
        assert_eq!(plan.zones[0].height, 2);
        for wrong in [format!("{id} 3"), "x 1 1".into(), format!("{id} -1 2")] {
            assert_eq!(sent(wrong, ""), None);
        }
        assert_eq!(sent(String::new(), "1 1 4 창가"), None);
    }
}
