//! `/boot/<mac>.ipxe`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dess_http::Ends;
use dess_model::host::request;
use dess_model::{ClientEntry, ControlError, EventKind, MacAddr, TargetReply, TargetRequest};
use dess_model::{DiskStatus, PROBE_MAC, SiteSnapshot, is_own_peer};

use super::Service;
use crate::plan::{BootPlan, boot_plan};
use crate::script::{Screen, boot_script, screen_script};
use crate::{base_url, script_url};

/// Answers with a script, whatever is the matter: an HTTP error would end in the firmware's own
/// words and the next boot device.
pub(super) async fn handle(
    State(service): State<Arc<Service>>,
    Extension(ends): Extension<Ends>,
    method: Method,
    Path(name): Path<String>,
) -> Response {
    let mac = name.strip_suffix(".ipxe").unwrap_or(&name).parse();
    let mac = match mac {
        Ok(mac) if MacAddr::is_unicast(mac) => mac,
        _ => {
            service.count_malformed(ends.peer.ip(), "a script was asked for by no MAC address");
            return (StatusCode::NOT_FOUND, "no such client\n").into_response();
        }
    };
    let peer = ends.peer.ip().to_canonical();
    let probe = mac == PROBE_MAC && is_own_peer(peer, ends.local.ip());
    // HEAD changes nothing: no disk is made for it. Nor does the server's own probe.
    let announce = method == Method::GET && !probe;
    let Some(snapshot) = service.snapshots.current() else {
        let url = format!("http://{}/boot/{}.ipxe", ends.local, mac.hyphenated());
        return shown(screen_script(&url, mac, None, &Screen::NoSite));
    };
    let client = snapshot.client_by_mac(mac);
    let outcome = match boot_plan(&snapshot, mac, peer) {
        BootPlan::Boot(client) if announce => service.power_on(client, peer).await,
        BootPlan::Boot(_) => Ok(()),
        BootPlan::Wait(screen) => Err(screen),
    };
    if announce {
        service.tell(&snapshot, mac, peer, &outcome);
    }
    shown(match (client, outcome) {
        (Some(client), Ok(())) => boot_script(&snapshot, client),
        (client, Err(screen)) => screen_script(&script_url(&snapshot, mac), mac, client, &screen),
        (None, Ok(())) => screen_script(&base_url(&snapshot), mac, None, &Screen::Registering),
    })
}

impl Service {
    /// Has the client's disk made or rotated; the screen to show if that failed.
    async fn power_on(&self, client: &ClientEntry, peer: IpAddr) -> Result<(), Screen> {
        let path = self.options.paths.target_control();
        let question = TargetRequest::PowerOn {
            client: client.id,
            peer,
        };
        let limit = self.options.power_on_limit;
        match request::<_, TargetReply>(&path, &question, limit).await {
            Ok(TargetReply::Disk(DiskStatus { .. }) | TargetReply::Done) => Ok(()),
            Ok(TargetReply::Error(error)) => {
                tracing::warn!(
                    client.mac = %client.mac,
                    "seat {} cannot boot: {error}", client.seat
                );
                Err(screen_of(error))
            }
            Ok(
                TargetReply::Status { .. }
                | TargetReply::Sealed(_)
                | TargetReply::Snapshots { .. }
                | TargetReply::Pool(_),
            ) => {
                tracing::error!("the iSCSI service answered a power-on with something else");
                Err(Screen::DiskServiceDown)
            }
            Err(error) => {
                tracing::error!(
                    client.mac = %client.mac,
                    error = &error as &dyn std::error::Error,
                    "seat {} cannot boot: {error}", client.seat
                );
                Err(Screen::DiskServiceDown)
            }
        }
    }

    fn tell(
        &self,
        snapshot: &SiteSnapshot,
        mac: MacAddr,
        peer: IpAddr,
        outcome: &Result<(), Screen>,
    ) {
        if let Err(Screen::ForeignAddress { reserved }) = outcome {
            // Whoever reaches the server can ask for any PC's script.
            let what =
                format!("asked for the script of {mac}, whose reserved address is {reserved}");
            if !self.count_refused(peer, &what) {
                return;
            }
        }
        match outcome {
            Ok(()) => tracing::info!(client.mac = %mac, "{mac} gets its boot script"),
            Err(Screen::ForeignAddress { .. }) => {}
            Err(screen) => tracing::info!(client.mac = %mac, "{mac} waits: {screen:?}"),
        }
        if let (Err(Screen::Registering), IpAddr::V4(address)) = (outcome, peer) {
            // DHCP told it too, and more of it; this makes up for a lost event, since the client
            // asks every 2 s. The address is not told: whoever asks may have made up the MAC.
            if snapshot.subnet_of(address).is_some() {
                self.send(EventKind::UnknownClient {
                    mac,
                    architecture: None,
                    uuid: None,
                    address: None,
                });
            }
        }
        self.send(EventKind::Script {
            mac,
            bootable: outcome.is_ok(),
            code: outcome
                .as_ref()
                .err()
                .and_then(Screen::code)
                .map(str::to_owned),
        });
    }
}

/// What a refusal of the iSCSI service means to the person in front of the PC.
fn screen_of(error: ControlError) -> Screen {
    match error {
        // Its snapshot is a moment older than ours.
        ControlError::UnknownClient { .. } => Screen::Registering,
        ControlError::NotApproved { .. } => Screen::AwaitsApproval,
        ControlError::NoImage { .. } => Screen::NoImage,
        ControlError::NoRoom { used_percent, .. } => Screen::NoRoom { used_percent },
        ControlError::Disk { message, .. } | ControlError::Malformed { message } => {
            Screen::DiskFailed { message }
        }
        ControlError::InUse { .. } => Screen::DiskServiceDown,
        ControlError::Running { .. } => Screen::Running,
    }
}

fn shown(script: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=us-ascii"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, script).into_response()
}
