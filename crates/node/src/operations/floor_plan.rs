//! The plan of the room as the operator arranged it: where each seat stands, and areas with a name.
//!
//! Only people look at it: it changes nothing on the data path.

use std::collections::HashSet;

use dess_model::ClientId;
use dess_store::{SeatPlaceRecord, Tx, ZoneRecord};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{OperationError, Operations, Result, audit};

/// Columns and rows of the largest plan.
pub const FLOOR_SIDE_MAX: u16 = 64;
/// Most areas of a plan.
const ZONES_MAX: usize = 40;
/// Longest name of an area in characters.
const ZONE_NAME_MAX: usize = 40;

/// The plan of the room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorPlan {
    /// Where seats stand; a client that is not here has no place yet.
    pub seats: Vec<SeatPlace>,
    /// Areas with a name, in the order in which they are drawn.
    pub zones: Vec<Zone>,
}

/// Where one seat stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatPlace {
    /// Who sits there.
    pub client: ClientId,
    /// Column, 1 to [`FLOOR_SIDE_MAX`].
    pub column: u16,
    /// Row, 1 to [`FLOOR_SIDE_MAX`].
    pub row: u16,
}

/// An area of the room with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// For people, 1 to 40 characters.
    pub name: String,
    /// Its first column.
    pub column: u16,
    /// Its first row.
    pub row: u16,
    /// How many columns it has, 1 or more.
    pub width: u16,
    /// How many rows it has, 1 or more.
    pub height: u16,
}

impl Zone {
    /// True if a place lies in it.
    pub fn holds(&self, column: u16, row: u16) -> bool {
        let across = self.column..self.column.saturating_add(self.width);
        let down = self.row..self.row.saturating_add(self.height);
        across.contains(&column) && down.contains(&row)
    }
}

impl Operations {
    /// The plan of the room; empty until somebody arranged it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn floor_plan(&self) -> Result<FloorPlan> {
        let mut tx = self.read().await?;
        let seats = tx.seat_place_list().await?;
        let zones = tx.zone_list().await?;
        Ok(FloorPlan {
            seats: seats
                .into_iter()
                .map(|seat| SeatPlace {
                    client: seat.client,
                    column: seat.column,
                    row: seat.row,
                })
                .collect(),
            zones: zones
                .into_iter()
                .map(|zone| Zone {
                    name: zone.name,
                    column: zone.column,
                    row: zone.row,
                    width: zone.width,
                    height: zone.height,
                })
                .collect(),
        })
    }

    /// Puts a plan in the place of the present one. Seats of clients that were removed meanwhile are
    /// left out.
    ///
    /// # Errors
    /// If something lies outside the plan, two seats share a place, or an area has no name.
    pub async fn floor_plan_set(&self, plan: FloorPlan) -> Result<()> {
        check(&plan)?;
        let (plan, actor) = (&plan, &*self.actor);
        self.store()
            .await?
            .transact(|tx| put(tx, plan, actor))
            .await
    }
}

async fn put(mut tx: Tx, plan: &FloorPlan, actor: &str) -> Result<()> {
    let known: HashSet<ClientId> = tx
        .client_list()
        .await?
        .iter()
        .map(|client| client.id)
        .collect();
    let seats: Vec<_> = plan
        .seats
        .iter()
        .filter(|seat| known.contains(&seat.client))
        .map(|seat| SeatPlaceRecord {
            client: seat.client,
            column: seat.column,
            row: seat.row,
        })
        .collect();
    let zones: Vec<_> = plan
        .zones
        .iter()
        .map(|zone| ZoneRecord {
            name: zone.name.clone(),
            column: zone.column,
            row: zone.row,
            width: zone.width,
            height: zone.height,
        })
        .collect();
    tx.floor_plan_put(&seats, &zones).await?;
    let details = json!({"seats": seats.len(), "zones": plan.zones.iter().map(|zone| &zone.name).collect::<Vec<_>>()});
    audit(&mut tx, actor, "room.arrange", "room", details).await?;
    Ok(())
}

fn check(plan: &FloorPlan) -> Result<()> {
    let side = 1..=FLOOR_SIDE_MAX;
    let mut places = HashSet::new();
    let mut clients = HashSet::new();
    for seat in &plan.seats {
        if !side.contains(&seat.column) || !side.contains(&seat.row) {
            return Err(outside());
        }
        if !places.insert((seat.column, seat.row)) || !clients.insert(seat.client) {
            let reason = format!("two seats at column {}, row {}", seat.column, seat.row);
            return Err(OperationError::invalid("place", reason));
        }
    }
    if plan.zones.len() > ZONES_MAX {
        let reason = format!("at most {ZONES_MAX} areas");
        return Err(OperationError::invalid("zone", reason));
    }
    for zone in &plan.zones {
        let fits = |first: u16, count: u16| {
            first >= 1 && count >= 1 && first.saturating_add(count) <= FLOOR_SIDE_MAX + 1
        };
        if !fits(zone.column, zone.width) || !fits(zone.row, zone.height) {
            return Err(outside());
        }
        let length = zone.name.chars().count();
        if !(1..=ZONE_NAME_MAX).contains(&length) || zone.name.chars().any(char::is_control) {
            let reason = format!("a name of 1 to {ZONE_NAME_MAX} characters");
            return Err(OperationError::invalid("zone", reason));
        }
    }
    Ok(())
}

fn outside() -> OperationError {
    let reason = format!("columns and rows go from 1 to {FLOOR_SIDE_MAX}");
    OperationError::invalid("place", reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn seat(column: u16, row: u16) -> SeatPlace {
        SeatPlace {
            client: ClientId(Uuid::now_v7()),
            column,
            row,
        }
    }

    fn zone(name: &str, column: u16, width: u16) -> Zone {
        Zone {
            name: name.into(),
            column,
            row: 1,
            width,
            height: 1,
        }
    }

    fn is_fine(seats: &[SeatPlace], zones: &[Zone]) -> bool {
        check(&FloorPlan {
            seats: seats.to_vec(),
            zones: zones.to_vec(),
        })
        .is_ok()
    }

    #[test]
    fn a_plan_has_one_seat_at_a_place_and_nothing_outside() {
        assert!(is_fine(&[seat(1, 1), seat(64, 64)], &[zone("창가", 61, 4)]));
        assert!(!is_fine(&[seat(2, 3), seat(2, 3)], &[]));
        let twice = seat(1, 1);
        assert!(!is_fine(&[twice, SeatPlace { column: 2, ..twice }], &[]));
        for (column, row) in [(0, 1), (1, 0), (65, 1), (1, 65)] {
            assert!(!is_fine(&[seat(column, row)], &[]), "{column} {row}");
        }
        for wrong in [
            zone("", 1, 1),
            zone("a\nb", 1, 1),
            zone("A", 0, 1),
            zone("A", 1, 0),
            zone("A", 62, 4),
            zone("A", 1, u16::MAX),
        ] {
            assert!(!is_fine(&[], std::slice::from_ref(&wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn an_area_holds_the_places_within_its_edges() {
        let zone = Zone {
            row: 2,
            height: 2,
            ..zone("A", 3, 2)
        };
        let held: Vec<_> = (1..=6)
            .flat_map(|row| (1..=6).map(move |column| (column, row)))
            .filter(|(column, row)| zone.holds(*column, *row))
            .collect();
        assert_eq!(held, [(3, 2), (4, 2), (3, 3), (4, 3)]);
    }
}
