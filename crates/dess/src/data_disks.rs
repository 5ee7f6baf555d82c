//! Data disks of clients and groups on the command line.

use clap::Args;
use dess_model::DataAccess;
use dess_node::operations::{DataDiskChange, DataDiskChoice, DataDiskView};

/// Data disks to give or to take.
#[derive(Args)]
pub(crate) struct DataDiskArguments {
    /// A further disk: its number (LUN, from 1), and the image on it with what happens to writes, e.g. `1=games` (read-only, the newest
    /// version at each power-on), `1=games@2:volatile` (writable until the next power-on), `1=games:persistent`;
    /// `1=none` for no disk, `1=inherit` for that of the client's group. May be given several times.
    #[arg(long = "data-disk", value_name = "LUN=IMAGE", value_parser = parse)]
    pub(crate) changes: Vec<DataDiskChange>,
}

fn parse(text: &str) -> Result<DataDiskChange, String> {
    let wrong = || {
        format!(
            "\"{text}\" is no data disk; write it as 1=games, 1=games@2:volatile, 1=games:persistent, 1=none or 1=inherit"
        )
    };
    let (lun, to) = text.split_once('=').ok_or_else(wrong)?;
    let to = match to.split_once(':') {
        None if to == "none" => DataDiskChoice::Nothing,
        None if to == "inherit" => DataDiskChoice::Inherit,
        found => {
            let (image, access) = found.unwrap_or((to, READ_ONLY));
            let access = [
                DataAccess::ReadOnly,
                DataAccess::Volatile,
                DataAccess::Persistent,
            ]
            .into_iter()
            .find(|known| word(*known) == access);
            DataDiskChoice::Image {
                image: image.to_owned(),
                access: access.ok_or_else(wrong)?,
            }
        }
    };
    Ok(DataDiskChange {
        lun: lun.parse().map_err(|_| wrong())?,
        to,
    })
}

const READ_ONLY: &str = "read-only";

fn word(access: DataAccess) -> &'static str {
    match access {
        DataAccess::ReadOnly => READ_ONLY,
        DataAccess::Volatile => "volatile",
        DataAccess::Persistent => "persistent",
        DataAccess::Maintenance => "maintenance",
    }
}

/// Data disks in a few words: `1: games@3 (newest, read-only)`.
pub(crate) fn describe(disks: &[DataDiskView]) -> String {
    let describe = |disk: &DataDiskView| {
        let Some(label) = &disk.label else {
            return format!("{}: none", disk.lun);
        };
        let newest = if disk.newest { "newest, " } else { "" };
        format!("{}: {label} ({newest}{})", disk.lun, word(disk.access))
    };
    match disks {
        [] => "none".to_owned(),
        disks => disks.iter().map(describe).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_disk_is_named_by_number_image_and_access() {
        let image = |text: &str| match parse(text).unwrap() {
            DataDiskChange {
                lun,
                to: DataDiskChoice::Image { image, access },
            } => (lun, image, access),
            other => panic!("{other:?}"),
        };
        let games = |lun, image: &str, access| (lun, image.to_owned(), access);
        assert_eq!(image("1=games"), games(1, "games", DataAccess::ReadOnly));
        assert_eq!(
            image("2=games@3:volatile"),
            games(2, "games@3", DataAccess::Volatile)
        );
        assert_eq!(parse("1=none").unwrap().to, DataDiskChoice::Nothing);
        assert_eq!(parse("1=inherit").unwrap().to, DataDiskChoice::Inherit);
        for wrong in [
            "games",
            "x=games",
            "1=games:rw",
            "1=games:maintenance",
            "999=games",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
