//! The daily backup.

use std::fs::{self, File};
use std::time::SystemTime;

use dess_store::newest_backup;

use super::*;
use crate::daemon::backup::back_up_if_due;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_daemon_that_finds_no_backup_makes_one() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    eventually("the backup", || async {
        newest_backup(&site.paths.backups()).unwrap()
    })
    .await;
    site.stop().await;
}

#[tokio::test]
async fn a_backup_is_made_when_the_newest_is_a_day_old() {
    let site = Site::new(Registration::Auto).await;
    let directory = site.paths.backups();
    let shared = Shared::new(site.paths.clone(), site.operations.database().clone());
    let age_of_newest = || {
        let newest = newest_backup(&directory).unwrap().unwrap();
        SystemTime::now().duration_since(newest).unwrap()
    };
    let set_age = |age: Duration| {
        for entry in fs::read_dir(&directory).unwrap() {
            let file = File::options()
                .write(true)
                .open(entry.unwrap().path())
                .unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    };
    back_up_if_due(&shared, 1).await.unwrap();
    set_age(DAY - Duration::from_secs(600));
    back_up_if_due(&shared, 1).await.unwrap();
    assert!(age_of_newest() > DAY / 2, "it was not due");
    set_age(DAY);
    back_up_if_due(&shared, 1).await.unwrap();
    assert!(age_of_newest() < DAY / 2, "it was due");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}
