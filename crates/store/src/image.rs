//! Images and their versions.

use dess_model::{ImageId, Timestamp, VersionRef};

use crate::row::{Columns, count_of};
use crate::statement::query;
use crate::{StoreError, Tx};

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    /// Identity.
    pub id: ImageId,
    /// Name, unique.
    pub name: String,
    /// Highest number that one of its versions has or had; raised with each version.
    pub last_version: u32,
    /// When it was made.
    pub created: Timestamp,
}

/// One version of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    /// Which.
    pub version: VersionRef,
    /// Its directory below the image directory.
    pub directory: String,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// Number of the version below it; none if it is whole.
    pub parent: Option<u32>,
    /// For people.
    pub comment: String,
    /// Who made it; empty if that is not known.
    pub author: String,
    /// Bytes that it holds beyond its parent; none if that is not known.
    pub layer_bytes: Option<u64>,
    /// When it was published.
    pub created: Timestamp,
}

impl Tx {
    /// All images by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn image_list(&mut self) -> Result<Vec<ImageRecord>, StoreError> {
        let statement =
            query("SELECT id, name, last_version, created_at FROM images ORDER BY name");
        let rows = self.fetch_all("list images", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(ImageRecord {
                    id: row.parsed("id")?,
                    name: row.text("name")?,
                    last_version: row.number("last_version")?,
                    created: row.time("created_at")?,
                })
            })
            .collect()
    }

    /// Adds an image.
    ///
    /// # Errors
    /// If the name is taken, or the database cannot be written.
    pub async fn image_insert(&mut self, image: &ImageRecord) -> Result<(), StoreError> {
        let statement =
            query("INSERT INTO images (id, name, last_version, created_at) VALUES (?, ?, ?, ?)")
                .bind(image.id.to_string())
                .bind(image.name.clone())
                .bind(i64::from(image.last_version))
                .bind(image.created.0);
        self.execute("add an image", statement).await.map(drop)
    }

    /// All versions of all images, oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn version_list(&mut self) -> Result<Vec<VersionRecord>, StoreError> {
        let statement = query(
            "SELECT image_id, number, directory, size_bytes, parent, comment, author, layer_bytes, \
             created_at FROM image_versions ORDER BY image_id, number",
        );
        let rows = self.fetch_all("list image versions", statement).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(VersionRecord {
                    version: VersionRef {
                        image: row.parsed("image_id")?,
                        number: row.number("number")?,
                    },
                    directory: row.text("directory")?,
                    size_bytes: row.number("size_bytes")?,
                    parent: row.number_opt("parent")?,
                    comment: row.text("comment")?,
                    author: row.text("author")?,
                    layer_bytes: row.number_opt("layer_bytes")?,
                    created: row.time("created_at")?,
                })
            })
            .collect()
    }

    /// Adds a version.
    ///
    /// # Errors
    /// If it exists, or the database cannot be written.
    pub async fn version_insert(&mut self, version: &VersionRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO image_versions (image_id, number, directory, size_bytes, parent, comment, \
             author, layer_bytes, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(version.version.image.to_string())
        .bind(i64::from(version.version.number))
        .bind(version.directory.clone())
        .bind(count_of(version.size_bytes))
        .bind(version.parent.map(i64::from))
        .bind(version.comment.clone())
        .bind(version.author.clone())
        .bind(version.layer_bytes.map(count_of))
        .bind(version.created.0);
        self.execute("add an image version", statement).await?;
        let number = i64::from(version.version.number);
        let raise = query("UPDATE images SET last_version = ? WHERE id = ? AND last_version < ?")
            .bind(number)
            .bind(version.version.image.to_string())
            .bind(number);
        self.execute("count the versions of an image", raise)
            .await
            .map(drop)
    }

    /// Notes that a version is whole now: it has no parent any more and holds so many bytes.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn version_flattened(
        &mut self,
        version: VersionRef,
        layer_bytes: u64,
    ) -> Result<(), StoreError> {
        let statement = query(
            "UPDATE image_versions SET parent = NULL, layer_bytes = ? \
             WHERE image_id = ? AND number = ?",
        )
        .bind(count_of(layer_bytes))
        .bind(version.image.to_string())
        .bind(i64::from(version.number));
        self.execute("change an image version", statement)
            .await
            .map(drop)
    }

    /// Removes a version.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn version_delete(&mut self, version: VersionRef) -> Result<(), StoreError> {
        let statement = query("DELETE FROM image_versions WHERE image_id = ? AND number = ?")
            .bind(version.image.to_string())
            .bind(i64::from(version.number));
        self.execute("remove an image version", statement)
            .await
            .map(drop)
    }
}
