use super::*;
use crate::failure::advice;
use crate::plan::tests::{MAC, site};
use dess_model::Secret;
use proptest::prelude::*;

const URL: &str = "http://10.77.0.1:8077/boot/52-54-00-77-00-10.ipxe";

#[test]
fn the_boot_script_is_exactly_this() {
    let site = site();
    let expected = "\
#!ipxe
set initiator-iqn iqn.2026-11.dess:client.12
set username seat12
set password abcdefgh12345678
set netX/gateway 0.0.0.0
set keep-san 1
set tries:int32 0
set wait:int32 5
:attempt
inc tries
echo DESS seat 12 (PC-12): starting from its disk, try ${tries} of 4
echo Disk at 10.77.0.1:3260
set failure 00000000
sanboot --drive 0x80 iscsi:10.77.0.1::3260:0:iqn.2026-11.dess:disk.12 || set failure ${errno:hexraw}
sanunhook --drive 0x80 ||
echo
echo DESS seat 12 (PC-12) (52:54:00:77:00:10) could not start. Error ${failure}
chain --autofree http://10.77.0.1:8077/report/52-54-00-77-00-10?stage=sanboot&errno=${failure} || echo E23: The server does not answer. Check the network cable and the server.
echo Trying again in ${wait} seconds.
sleep ${wait}
inc wait 5
iseq ${tries} 4 || goto attempt
:again
sleep 0
chain --replace --autofree http://10.77.0.1:8077/boot/52-54-00-77-00-10.ipxe || echo E23: The server does not answer. Check the network cable and the server.
sleep 5
goto again
";
    assert_eq!(boot_script(&site, &site.clients[0]), expected);
}

#[test]
fn every_portal_is_tried_in_order() {
    let mut site = site();
    site.server.portals.push("10.78.0.1:3261".parse().unwrap());
    let script = boot_script(&site, &site.clients[0]);
    let first = script.find("iscsi:10.77.0.1::3260:0:").unwrap();
    let second = script.find("iscsi:10.78.0.1::3261:0:").unwrap();
    assert!(first < second);
    assert_eq!(script.matches("sanunhook --drive 0x80").count(), 2);
}

#[test]
fn a_waiting_screen_is_exactly_this() {
    let site = site();
    let script = screen_script(URL, MAC, Some(&site.clients[0]), &Screen::DiskServiceDown);
    let expected = "\
#!ipxe
echo
echo DESS seat 12 (PC-12) (52:54:00:77:00:10)
echo E11: The disk service of the server does not answer.
echo On the DESS page, see Services; restart the red one.
echo This PC asks again every 5 seconds.
:again
sleep 5
chain --replace --autofree http://10.77.0.1:8077/boot/52-54-00-77-00-10.ipxe || echo E23: The server does not answer. Check the network cable and the server.
sleep 5
goto again
";
    assert_eq!(script, expected);
}

#[test]
fn every_screen_speaks_in_ascii_within_80_columns_and_asks_again() {
    let reserved = [10, 77, 0, 12].into();
    let message = "디스크 /var/lib/dess/overlays: No space left on device ${x} || shell".to_owned();
    for screen in [
        Screen::NoSite,
        Screen::Registering,
        Screen::AwaitsApproval,
        Screen::NoImage,
        Screen::ForeignAddress { reserved },
        Screen::DiskServiceDown,
        Screen::NoRoom { used_percent: 100 },
        Screen::DiskFailed { message },
    ] {
        let script = screen_script(URL, MAC, None, &screen);
        assert!(script.is_ascii(), "{script}");
        assert!(!script.contains("|| shell"), "{script}");
        assert!(script.ends_with("goto again\n"), "{script}");
        for line in script.lines() {
            let shown = line.strip_prefix("echo ").unwrap_or("");
            assert!(shown.len() < 80, "{shown}");
        }
    }
    for class in 0..128 {
        let script = report_script(&advice(class << 24));
        assert!(script.is_ascii());
        assert!(script.lines().all(|line| line.len() < 80), "{script}");
    }
}

#[test]
fn a_korean_name_is_not_shown_as_rubbish() {
    let mut site = site();
    site.clients[0].name = "가나다".into();
    let script = boot_script(&site, &site.clients[0]);
    assert!(script.contains("echo DESS seat 12: starting"), "{script}");
    site.clients[0].name = "PC방 12".into();
    let script = boot_script(&site, &site.clients[0]);
    assert!(
        script.contains("echo DESS seat 12 (PC? 12): starting"),
        "{script}"
    );
}

#[test]
fn a_secret_with_characters_of_ipxe_is_stored_byte_by_byte() {
    let mut site = site();
    site.clients[0].iscsi.chap_secret = Secret::new("a b${mac}|| #");
    let script = boot_script(&site, &site.clients[0]);
    assert!(
        script.contains("set password:hex 61:20:62:24:7b:6d:61:63:7d:7c:7c:20:23\n"),
        "{script}"
    );
}

proptest! {
    #[test]
    fn no_name_or_message_puts_a_command_into_a_script(text in any::<String>()) {
        let mut site = site();
        let plain = boot_script(&site, &site.clients[0]).lines().count();
        site.clients[0].name.clone_from(&text);
        let script = boot_script(&site, &site.clients[0]);
        prop_assert!(script.is_ascii());
        prop_assert_eq!(script.lines().count(), plain);
        let screen = Screen::DiskFailed { message: text };
        let script = screen_script(URL, MAC, Some(&site.clients[0]), &screen);
        prop_assert!(script.is_ascii());
        prop_assert_eq!(script.lines().count(), 11);
        for line in script.lines().filter(|line| line.starts_with("echo")) {
            let syntax = ["||", "&&", "${"].iter().any(|syntax| line.contains(syntax));
            prop_assert!(!syntax, "{}", line);
        }
    }
}
