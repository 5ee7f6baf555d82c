//! The scrub of the stored versions.

use super::*;

#[tokio::test]
async fn damage_in_a_stored_version_is_found_noted_and_told_with_who_uses_it() {
    let mut site = Site::new(Registration::Auto).await;
    site.start().await;
    let id = site
        .operations
        .image_import_start(import_of(&site, "debian"))
        .await
        .unwrap();
    let label = job_end(&site, id).await.result.unwrap();
    site.stop().await;
    let (_, version) = site.operations.version_named(&label).await.unwrap();
    let data = dess_disk::version_directory(&site.paths.images(), version).join("data");
    let file = std::fs::OpenOptions::new().write(true).open(data).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 0).unwrap();
    site.scrub = ScrubOptions {
        bytes_per_second: 1 << 40,
        every: Duration::from_secs(3600),
        start_after: Duration::ZERO,
    };
    site.start().await;
    eventually("a pass ends", || async {
        site.operations.scrub_state().ended
    })
    .await;
    let state = site.operations.scrub_state();
    assert_eq!((state.at, state.faults.len()), (None, 1));
    assert_eq!(
        (
            state.faults[0].0,
            state.faults[0].1.bytes.clone().unwrap().start
        ),
        (version, 0)
    );
    let notices = site.operations.notice_list(60_000).await.unwrap();
    assert_eq!(notices[0].kind, NoticeKind::VersionDamaged);
    assert_eq!(notices[0].subject, label);
    assert!(
        notices[0].detail.contains("assigned to the group"),
        "{}",
        notices[0].detail
    );
    // A pass is not begun again before its time.
    site.stop().await;
    site.start().await;
    assert_eq!(site.operations.scrub_state(), state);
    site.stop().await;
}
