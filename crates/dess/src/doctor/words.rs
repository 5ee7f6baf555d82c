//! Findings in Korean and English: the cause, what to do, and the command that does it.

use dess_model::ServiceName;
use dess_web::{Language, probe_failure_in_words};

use super::finding::{Finding, Severity};
use crate::output::bytes;

/// A finding for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) cause: String,
    pub(crate) command: String,
}

/// One text in both languages; which one is chosen by the reader's.
fn one(language: Language, ko: impl Into<String>, en: impl Into<String>) -> String {
    match language {
        Language::Korean => ko.into(),
        Language::English => en.into(),
    }
}

pub(crate) fn severity(language: Language, severity: Severity) -> String {
    match severity {
        Severity::Bad => one(language, "문제", "PROBLEM"),
        Severity::Warning => one(language, "주의", "WARNING"),
    }
}

pub(crate) fn nothing(language: Language) -> String {
    one(language, "문제가 없습니다.", "Nothing is wrong.")
}

pub(crate) fn count(language: Language, count: usize) -> String {
    let en = match count {
        1 => "One thing is wrong.".to_owned(),
        more => format!("{more} things are wrong."),
    };
    one(language, format!("확인할 것이 {count}건 있습니다."), en)
}

pub(crate) fn fix(language: Language) -> String {
    one(language, "조치", "to do")
}

pub(crate) fn fixed(language: Language) -> String {
    one(language, "고쳤습니다", "mended")
}

/// What is not looked at, since this release has none of it.
pub(crate) fn not_applicable(language: Language) -> String {
    one(
        language,
        "인증서: 해당 없음 (관리 페이지가 아직 TLS를 쓰지 않습니다).",
        "certificate: not applicable (the admin page does not speak TLS yet).",
    )
}

/// The cause and the command that mends it.
pub(crate) fn words(language: Language, finding: &Finding) -> Words {
    Words {
        cause: cause(language, finding),
        command: command(finding),
    }
}

fn cause(language: Language, finding: &Finding) -> String {
    match finding {
        Finding::NotRoot
        | Finding::NothingRuns
        | Finding::ServiceDown { .. }
        | Finding::ServiceFails { .. }
        | Finding::PortTaken { .. } => service_cause(language, finding),
        Finding::InterfaceMissing { .. }
        | Finding::LinkDown { .. }
        | Finding::LinkSlow { .. }
        | Finding::AddressChanged { .. }
        | Finding::NoFreeLeases { .. }
        | Finding::RogueDhcp { .. } => network_cause(language, finding),
        _ => storage_cause(language, finding),
    }
}

fn service_cause(language: Language, finding: &Finding) -> String {
    match finding {
        Finding::NotRoot => one(
            language,
            "root가 아니어서 일부는 확인하지 못했습니다.",
            "Not run as root: some things could not be looked at.",
        ),
        Finding::NothingRuns => one(
            language,
            "서비스가 실행되고 있지 않습니다 (dess up 응답 없음).",
            "The services do not run (dess up does not answer).",
        ),
        Finding::ServiceDown {
            service,
            last_exit,
            last_line,
        } => {
            let exit = last_exit.as_ref().map(ToString::to_string);
            let mut detail: Vec<_> = exit.into_iter().collect();
            detail.extend(last_line.clone());
            let detail = detail.join("; ");
            one(
                language,
                format!("{service} 서비스가 실행되고 있지 않습니다. {detail}"),
                format!("The service {service} does not run. {detail}"),
            )
        }
        Finding::ServiceFails { service, failure } => {
            let reason = probe_failure_in_words(language, failure);
            one(
                language,
                format!("{service} 서비스가 켜져 있지만 작동하지 않습니다. {reason}"),
                format!("The service {service} runs but does not work. {reason}"),
            )
        }
        Finding::PortTaken {
            protocol,
            port,
            holder,
        } => one(
            language,
            format!("다른 프로그램 {holder}이(가) {protocol} 포트 {port}을(를) 쓰고 있습니다."),
            format!("Another program, {holder}, has {protocol} port {port}."),
        ),
        _ => String::new(),
    }
}

fn network_cause(language: Language, finding: &Finding) -> String {
    match finding {
        Finding::InterfaceMissing {
            interface,
            existing,
        } => {
            let existing = existing.join(", ");
            one(
                language,
                format!("네트워크 장치 {interface}이(가) 없습니다. 있는 장치: {existing}"),
                format!("There is no network interface {interface}. There are: {existing}"),
            )
        }
        Finding::LinkDown { interface } => one(
            language,
            format!(
                "네트워크 장치 {interface}의 연결이 끊겨 있습니다. 케이블과 스위치를 확인하십시오."
            ),
            format!("Network interface {interface} has no link. Check its cable and the switch."),
        ),
        Finding::LinkSlow { interface, mbit } => one(
            language,
            format!(
                "네트워크 장치 {interface}이(가) {mbit} Mbit/s로 연결되어 느립니다. 케이블과 스위치 포트를 확인하십시오."
            ),
            format!(
                "Network interface {interface} is linked at {mbit} Mbit/s only. Check its cable and the switch port."
            ),
        ),
        Finding::AddressChanged {
            wanted,
            interface,
            found,
        } => {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            let found = found.join(", ");
            one(
                language,
                format!("서버에 IP 주소 {wanted}이(가) 없습니다. {interface}의 지금 주소: {found}"),
                format!("The server does not have its address {wanted}. {interface} has: {found}"),
            )
        }
        Finding::NoFreeLeases { network, total } => one(
            language,
            format!(
                "{network}에서 나누어 줄 IP 주소 {total}개가 모두 쓰이고 있어 새 PC는 주소를 받지 못합니다."
            ),
            format!(
                "All {total} addresses for clients in {network} are given; a new PC gets none."
            ),
        ),
        Finding::RogueDhcp {
            interface,
            server,
            mac,
        } => {
            let mac = mac.map_or_else(|| "?".to_owned(), |mac| mac.to_string());
            one(
                language,
                format!(
                    "{interface}에서 다른 DHCP 서버 {server} (MAC {mac})이(가) 응답합니다. 그 장치의 DHCP를 끄십시오."
                ),
                format!(
                    "Another DHCP server, {server} (MAC {mac}), answers on {interface}. Switch it off there."
                ),
            )
        }
        _ => String::new(),
    }
}

fn storage_cause(language: Language, finding: &Finding) -> String {
    match finding {
        Finding::LoaderMissing { file } => one(
            language,
            format!("부팅 파일 {file}이(가) 없습니다. iPXE 패키지가 설치되지 않았습니다."),
            format!("Boot file {file} is missing: the iPXE package is not installed."),
        ),
        Finding::ImageUnreadable {
            image,
            directory,
            detail,
        } => {
            let place = directory.display();
            one(
                language,
                format!("이미지 {image}을(를) 읽을 수 없습니다 ({place}): {detail}"),
                format!("Image {image} cannot be read ({place}): {detail}"),
            )
        }
        Finding::SpaceLow {
            path,
            free_bytes,
            free_percent,
        } => {
            let (path, free) = (path.display(), bytes(*free_bytes));
            one(
                language,
                format!("{path}의 남은 공간이 {free} ({free_percent} %)뿐입니다."),
                format!("Only {free} ({free_percent} %) are free at {path}."),
            )
        }
        Finding::WrongRights {
            path,
            mode,
            foreign_owner,
            ..
        } => {
            let path = path.display();
            let owner = foreign_owner.map_or_else(String::new, |uid| format!(", uid {uid}"));
            one(
                language,
                format!(
                    "{path}의 권한이 잘못되어 다른 사용자가 읽거나 바꿀 수 있습니다 (모드 {mode:o}{owner})."
                ),
                format!(
                    "The rights of {path} are wrong: others may read or change it (mode {mode:o}{owner})."
                ),
            )
        }
        Finding::DirectoryMissing { path } => one(
            language,
            format!("디렉터리 {}이(가) 없습니다.", path.display()),
            format!("The directory {} is missing.", path.display()),
        ),
        _ => recorded_cause(language, finding),
    }
}

/// About the clock, and about what is written of the site.
fn recorded_cause(language: Language, finding: &Finding) -> String {
    match finding {
        Finding::ClockBehind { by_secs } => one(
            language,
            format!("서버 시계가 이미 기록된 시각보다 {by_secs}초 늦습니다."),
            format!("The clock is {by_secs} s behind what was written already."),
        ),
        Finding::ClockUnset => one(
            language,
            "서버 시계가 맞추어져 있지 않습니다.",
            "The clock is not set.",
        ),
        Finding::NoSite => one(
            language,
            "매장이 아직 설정되지 않았습니다.",
            "The site is not set up yet.",
        ),
        Finding::DatabaseGone { detail } => one(
            language,
            format!("데이터베이스를 쓸 수 없습니다. PC 부팅에는 영향이 없습니다: {detail}"),
            format!("The database cannot be used; PCs boot on all the same: {detail}"),
        ),
        Finding::SnapshotUnreadable { detail } => one(
            language,
            format!("매장 정보 파일(site.json)을 읽을 수 없습니다: {detail}"),
            format!("The site snapshot (site.json) cannot be read: {detail}"),
        ),
        Finding::SnapshotStale { published, wanted } => one(
            language,
            format!(
                "매장 정보 파일이 오래되었습니다 (버전 {published}, 데이터베이스는 {wanted}). 관리 데몬이 갱신하지 못했습니다."
            ),
            format!(
                "The site snapshot is stale (revision {published}, the database has {wanted}): the management daemon has not published it."
            ),
        ),
        _ => String::new(),
    }
}

/// The command that mends it, or begins to.
fn command(finding: &Finding) -> String {
    match finding {
        Finding::NotRoot => "sudo dess doctor".into(),
        Finding::NothingRuns => "dess up".into(),
        Finding::ServiceDown { service, .. } | Finding::ServiceFails { service, .. } => {
            restart(*service)
        }
        Finding::PortTaken { holder, .. } => {
            let pid = holder.rsplit("pid ").next().unwrap_or_default();
            format!("ps -fp {}", pid.trim_end_matches(')'))
        }
        Finding::InterfaceMissing { .. } => "ip -br link".into(),
        Finding::LinkDown { interface } => format!("ip link set {interface} up"),
        Finding::LinkSlow { interface, .. } => format!("ethtool {interface}"),
        Finding::AddressChanged {
            wanted, interface, ..
        } => format!("ip addr add {wanted}/24 dev {interface}"),
        Finding::LoaderMissing { .. } => "apt install ipxe".into(),
        Finding::ImageUnreadable { image, .. } => format!("dess image check {image}"),
        Finding::SpaceLow { path, .. } => format!("du -xsh {}/*; dess gc", path.display()),
        Finding::WrongRights {
            path,
            foreign_owner,
            is_directory,
            ..
        } => {
            let mode = if *is_directory { "700" } else { "600" };
            let path = path.display();
            let own = foreign_owner.map_or_else(String::new, |_| format!("chown root: {path}; "));
            format!("{own}chmod {mode} {path}")
        }
        Finding::DirectoryMissing { path } => format!("mkdir -m 700 -p {}", path.display()),
        Finding::ClockBehind { .. } | Finding::ClockUnset => "timedatectl set-ntp true".into(),
        Finding::NoSite => "dess init --help".into(),
        Finding::DatabaseGone { .. } => "dess db check; dess db restore --help".into(),
        Finding::SnapshotUnreadable { .. } | Finding::SnapshotStale { .. } => {
            restart(ServiceName::Node)
        }
        Finding::NoFreeLeases { .. } => "dess client list; dess site show".into(),
        Finding::RogueDhcp { server, .. } => format!("ip neigh show {server}"),
    }
}

fn restart(service: ServiceName) -> String {
    format!("dess service restart {service}")
}
