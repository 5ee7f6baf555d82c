//! The plan of the room: where the seats stand, and areas with a name.

use dess_model::ClientId;

use crate::row::Columns;
use crate::statement::{query, query_of};
use crate::{StoreError, Tx};

/// Where one seat stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatPlaceRecord {
    /// Who sits there.
    pub client: ClientId,
    /// Column, from 1.
    pub column: u16,
    /// Row, from 1.
    pub row: u16,
}

/// An area of the room with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// For people.
    pub name: String,
    /// Its first column, from 1.
    pub column: u16,
    /// Its first row, from 1.
    pub row: u16,
    /// How many columns it has.
    pub width: u16,
    /// How many rows it has.
    pub height: u16,
}

/// Seats written by one statement.
const SEATS_AT_ONCE: usize = 250;

impl Tx {
    /// Where the seats stand that were given a place.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn seat_place_list(&mut self) -> Result<Vec<SeatPlaceRecord>, StoreError> {
        let statement = query(
            "SELECT client_id, place_column, place_row FROM seat_places \
             ORDER BY place_row, place_column, client_id",
        );
        let rows = self
            .fetch_all("list the places of the seats", statement)
            .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(SeatPlaceRecord {
                    client: row.parsed("client_id")?,
                    column: row.number("place_column")?,
                    row: row.number("place_row")?,
                })
            })
            .collect()
    }

    /// The areas in the order in which they are drawn.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn zone_list(&mut self) -> Result<Vec<ZoneRecord>, StoreError> {
        let statement = query("SELECT * FROM zones ORDER BY position");
        let rows = self.fetch_all("list zones", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(ZoneRecord {
                    name: row.text("name")?,
                    column: row.number("place_column")?,
                    row: row.number("place_row")?,
                    width: row.number("width")?,
                    height: row.number("height")?,
                })
            })
            .collect()
    }

    /// Puts a plan in the place of the present one.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn floor_plan_put(
        &mut self,
        seats: &[SeatPlaceRecord],
        zones: &[ZoneRecord],
    ) -> Result<(), StoreError> {
        const ACTION: &str = "write the plan of the room";
        self.execute(ACTION, query("DELETE FROM seat_places"))
            .await?;
        self.execute(ACTION, query("DELETE FROM zones")).await?;
        for some in seats.chunks(SEATS_AT_ONCE) {
            let rows = vec!["(?, ?, ?)"; some.len()].join(", ");
            let insert = format!(
                "INSERT INTO seat_places (client_id, place_column, place_row) VALUES {rows}"
            );
            let statement = some.iter().fold(query_of(insert), |statement, seat| {
                statement
                    .bind(seat.client.to_string())
                    .bind(i64::from(seat.column))
                    .bind(i64::from(seat.row))
            });
            self.execute(ACTION, statement).await?;
        }
        for (position, zone) in (1_i64..).zip(zones) {
            let statement = query(
                "INSERT INTO zones (position, name, place_column, place_row, width, height) \
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(position)
            .bind(zone.name.clone())
            .bind(i64::from(zone.column))
            .bind(i64::from(zone.row))
            .bind(i64::from(zone.width))
            .bind(i64::from(zone.height));
            self.execute(ACTION, statement).await?;
        }
        Ok(())
    }

    /// Takes the place of a client that is removed.
    pub(crate) async fn seat_place_delete(&mut self, client: ClientId) -> Result<(), StoreError> {
        let statement =
            query("DELETE FROM seat_places WHERE client_id = ?").bind(client.to_string());
        self.execute("take the place of a seat", statement)
            .await
            .map(drop)
    }
}
