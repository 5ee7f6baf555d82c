//! Where the seats stand on the plan of the room.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use dess_model::ClientId;
use dess_node::operations::{ClientView, FLOOR_SIDE_MAX, FloorPlan, Zone};

/// Seats in a row where nobody arranged them.
const ROW_MIN: u16 = 8;

/// A place: column and row, from 1.
pub(crate) type Place = (u16, u16);

/// The plan with a place for every seat that finds one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    places: HashMap<ClientId, Place>,
    pub(crate) zones: Vec<Zone>,
}

impl Floor {
    /// Seats that nobody placed yet stand below the others, in seat order. Without a plan no seat has
    /// a place: they flow as the screen is wide.
    pub(crate) fn new(plan: &FloorPlan, clients: &[ClientView]) -> Self {
        let mut floor = Self {
            places: HashMap::new(),
            zones: plan.zones.clone(),
        };
        if plan.seats.is_empty() {
            return floor;
        }
        let present = |id: ClientId| clients.iter().any(|client| client.id == id);
        for seat in plan.seats.iter().filter(|seat| present(seat.client)) {
            floor.places.insert(seat.client, (seat.column, seat.row));
        }
        let zones = plan.zones.iter();
        let (mut width, mut below) = (ROW_MIN, 0);
        for (column, row) in floor.places.values().copied().chain(zones.map(far_corner)) {
            width = width.max(column);
            below = below.max(row);
        }
        let new = clients
            .iter()
            .filter(|client| !floor.places.contains_key(&client.id))
            .map(|client| client.id);
        let free = (below + 1..=FLOOR_SIDE_MAX)
            .flat_map(|row| (1..=width).map(move |column| (column, row)));
        let added: Vec<_> = new.zip(free).collect();
        floor.places.extend(added);
        floor
    }

    /// Where a seat stands.
    pub(crate) fn place(&self, id: ClientId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// True if somebody arranged the room.
    pub(crate) fn is_planned(&self) -> bool {
        !self.places.is_empty()
    }
}

fn far_corner(zone: &Zone) -> Place {
    (zone.column + zone.width - 1, zone.row + zone.height - 1)
}

/// Names the areas of a plan: a page with others is loaded anew.
pub(crate) fn outline(plan: &FloorPlan) -> u64 {
    let mut hasher = DefaultHasher::new();
    plan.seats.is_empty().hash(&mut hasher);
    for zone in &plan.zones {
        (&zone.name, zone.column, zone.row, zone.width, zone.height).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use dess_node::operations::SeatPlace;

    use super::*;
    use crate::sample;

    #[test]
    fn a_seat_without_a_place_stands_below_the_others() {
        let clients: Vec<_> = (1..=11).map(sample::client).collect();
        let seats = vec![SeatPlace {
            client: clients[4].id,
            column: 3,
            row: 2,
        }];
        let zones = vec![Zone {
            name: "창가".into(),
            column: 1,
            row: 1,
            width: 4,
            height: 3,
        }];
        let floor = Floor::new(&FloorPlan { seats, zones }, &clients);
        assert_eq!(floor.place(clients[4].id), Some((3, 2)));
        assert_eq!(floor.place(clients[0].id), Some((1, 4)));
        assert_eq!(floor.place(clients[5].id), Some((5, 4)));
        assert_eq!(floor.place(clients[10].id), Some((2, 5)), "eight in a row");
    }

    #[test]
    fn without_a_plan_the_seats_flow() {
        let clients = [sample::client(1)];
        let floor = Floor::new(&FloorPlan::default(), &clients);
        assert_eq!(floor.place(clients[0].id), None);
        assert!(!floor.is_planned());
    }
}
