//! `dess client`

use std::process::ExitCode;

use anyhow::{Context, Result};
use dess_diagnosis::ClientState;
use dess_model::{BootPolicy, IscsiIdentity, Timestamp};
use dess_node::operations::{BootAttemptView, ClientAdd, ClientChange, ClientView};
use serde::Serialize;

use super::traffic::ClientTraffic;
use super::{confirmed, import, wake};
use crate::arguments::{ClientAddArguments, ClientCommand, ClientSetArguments, parse_policy};
use crate::control::Control;
use crate::data_disks;
use crate::limits;
use crate::output::{self, ago, bytes, duration, or_dash, say, table};

pub(super) async fn client(
    control: &impl Control,
    command: ClientCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        ClientCommand::List => list(control, json).await?,
        ClientCommand::Show { client, secret } => {
            let client = control.client_find(&client).await?;
            let iscsi = match secret {
                true => Some(control.local()?.client_iscsi(client.id).await?),
                false => None,
            };
            let data_path = control.data_path().await.ok().flatten();
            let traffic = ClientTraffic::of(&client, data_path.unwrap_or_default());
            details(&client, &traffic, iscsi.as_ref(), json)?;
        }
        ClientCommand::Add(arguments) => {
            let added = control.client_add(addition(arguments)).await?;
            show(&added, json)?;
        }
        ClientCommand::Set(arguments) => set(control, *arguments, json).await?,
        ClientCommand::Approve { client } => {
            let client = control.client_find(&client).await?;
            show(&control.client_approve(client.id).await?, json)?;
        }
        ClientCommand::Remove { client, force, yes } => {
            let client = control.client_find(&client).await?;
            let question = format!("Remove {} with its disk and its history?", named(&client));
            if confirmed(&question, yes)? {
                control.client_remove(&client, force).await?;
                say!("{} is removed", named(&client));
            }
        }
        ClientCommand::Wake {
            clients,
            group,
            stagger,
        } => wake::wake(control.local()?, &clients, group.as_deref(), stagger).await?,
        ClientCommand::Reset { client, force, yes } => {
            reset(control, &client, force, yes).await?;
        }
        ClientCommand::Export { file } => import::export(control.local()?, file.as_deref()).await?,
        ClientCommand::Import { file, dry_run } => {
            return import::import(control.local()?, &file, dry_run, json).await;
        }
        ClientCommand::ImportDhcpd { file, dry_run } => {
            return import::import_dhcpd(control.local()?, &file, dry_run, json).await;
        }
        ClientCommand::Boots { client, limit } => {
            let client = control.client_find(&client).await?;
            let boots = control.client_boots(client.id, limit).await?;
            if json {
                output::json(&boots)?;
            } else {
                boots.iter().for_each(print_boot);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(control: &impl Control, json: bool) -> Result<()> {
    let clients = control.client_list().await?;
    if json {
        return output::json(&clients);
    }
    let mut rows = table(&[
        "seat", "name", "state", "image", "policy", "address", "mac", "read",
    ]);
    for client in &clients {
        rows.add_row([
            client.seat.to_string(),
            client.name.clone(),
            state(&client.state),
            or_dash(client.image.as_ref().map(|image| &image.label)),
            policy(client.policy).to_owned(),
            or_dash(client.address),
            client.mac.to_string(),
            bytes(client.traffic.read_bytes),
        ]);
    }
    say!("{rows}");
    Ok(())
}

/// One client, a line for each fact. The secret is shown only if it was asked for.
fn details(
    client: &ClientView,
    traffic: &ClientTraffic,
    iscsi: Option<&IscsiIdentity>,
    json: bool,
) -> Result<()> {
    if json {
        #[derive(Serialize)]
        struct Details<'a> {
            #[serde(flatten)]
            client: &'a ClientView,
            #[serde(flatten)]
            data_path: &'a ClientTraffic,
            iscsi: Option<&'a IscsiIdentity>,
        }
        return output::json(&Details {
            client,
            data_path: traffic,
            iscsi,
        });
    }
    let mut facts = vec![
        ("seat", client.seat.to_string()),
        ("name", client.name.clone()),
        ("state", state(&client.state)),
        ("MAC address", client.mac.to_string()),
        ("address", or_dash(client.address)),
        (
            "image",
            or_dash(client.image.as_ref().map(|image| &image.label)),
        ),
        ("policy", policy(client.policy).to_owned()),
        ("data disks", data_disks::describe(&client.data_disks)),
        ("group", client.group.clone()),
        ("limits", limits::describe(&client.limits)),
        (
            "overlay limits",
            limits::describe_overlay(&client.overlay_limits),
        ),
        ("boot file", or_dash(client.boot_file.as_ref())),
        ("firmware", or_dash(client.hardware.architecture)),
        ("read", bytes(client.traffic.read_bytes)),
        ("written", bytes(client.traffic.written_bytes)),
        ("id", client.id.to_string()),
    ];
    facts.extend(traffic.facts());
    if let Some(iscsi) = iscsi {
        facts.push(("initiator name", iscsi.initiator_iqn.clone()));
        facts.push(("target name", iscsi.target_iqn.clone()));
        facts.push(("CHAP name", iscsi.chap_user.clone()));
        facts.push(("CHAP secret", iscsi.chap_secret.expose().to_owned()));
    }
    for (fact, value) in facts {
        say!("{fact:<15} {value}");
    }
    Ok(())
}

async fn reset(control: &impl Control, client: &str, force: bool, yes: bool) -> Result<()> {
    let client = control.client_find(client).await?;
    let question = format!("Drop everything that {} has written?", named(&client));
    if !confirmed(&question, yes)? {
        return Ok(());
    }
    control.client_reset(client.id, force).await?;
    say!(
        "{} starts with a fresh disk at its next power-on",
        named(&client)
    );
    Ok(())
}

fn addition(arguments: ClientAddArguments) -> ClientAdd {
    ClientAdd {
        mac: arguments.mac,
        seat: arguments.seat,
        name: arguments.name,
        address: arguments.address,
        policy: arguments.policy,
        image: arguments.image,
    }
}

fn change(arguments: ClientSetArguments) -> Result<ClientChange> {
    let address = match arguments.address.as_deref() {
        None => None,
        Some("none") => Some(None),
        Some(text) => {
            let parsed = text.parse();
            Some(Some(parsed.with_context(|| {
                format!("\"{text}\" is not an IPv4 address")
            })?))
        }
    };
    let policy = match arguments.policy.as_deref() {
        None => None,
        Some("inherit") => Some(None),
        Some(text) => Some(Some(parse_policy(text).map_err(anyhow::Error::msg)?)),
    };
    Ok(ClientChange {
        seat: arguments.seat,
        name: arguments.name,
        mac: arguments.mac,
        address,
        image: arguments
            .image
            .map(|image| (image != "inherit").then_some(image)),
        policy,
        limits: arguments.limits.change()?,
        data_disks: arguments.data_disks.changes,
        boot_file: arguments
            .boot_file
            .map(|file| (file != "none").then_some(file)),
    })
}

async fn set(control: &impl Control, arguments: ClientSetArguments, json: bool) -> Result<()> {
    let client = control.client_find(&arguments.client).await?;
    let yes = arguments.yes;
    let change = change(arguments)?;
    if client.policy == BootPolicy::Persistent
        && policy_after(control, &client, &change).await? == BootPolicy::Volatile
    {
        let name = named(&client);
        let question =
            format!("At its next power-on {name} loses everything written on it. Go on?");
        if !confirmed(&question, yes)? {
            return Ok(());
        }
    }
    show(&control.client_set(&client, change).await?, json)
}

/// What happens to the client's writes after this change.
async fn policy_after(
    control: &impl Control,
    client: &ClientView,
    change: &ClientChange,
) -> Result<BootPolicy> {
    match change.policy {
        None => Ok(client.policy),
        Some(Some(policy)) => Ok(policy),
        Some(None) => {
            let groups = control.group_list().await?;
            let group = groups.iter().find(|group| group.name == client.group);
            Ok(group.map_or(BootPolicy::Volatile, |group| group.policy))
        }
    }
}

fn show(client: &ClientView, json: bool) -> Result<()> {
    if json {
        return output::json(client);
    }
    say!(
        "{}: {}, {}, boots {}",
        named(client),
        state(&client.state),
        policy(client.policy),
        or_dash(client.image.as_ref().map(|image| &image.label)),
    );
    Ok(())
}

fn named(client: &ClientView) -> String {
    format!("seat {} ({})", client.seat, client.name)
}

pub(super) fn policy(policy: BootPolicy) -> &'static str {
    match policy {
        BootPolicy::Volatile => "volatile",
        BootPolicy::Persistent => "persistent",
        BootPolicy::Maintenance => "maintenance",
    }
}

/// The state in a few words.
pub(super) fn state(state: &ClientState) -> String {
    match state {
        ClientState::Pending => "waits for approval".to_owned(),
        ClientState::Off => "off".to_owned(),
        ClientState::Booting { stage, since } => format!("booting: {stage} ({})", ago(*since)),
        ClientState::Running { since } => format!("running ({})", ago(*since)),
        ClientState::Fault { code, text, .. } => format!("FAULT {code}: {text}"),
    }
}

fn print_boot(boot: &BootAttemptView) {
    let summary = &boot.summary;
    let result = match (summary.up_after_ms, &summary.fault) {
        (Some(after), _) => format!("up after {after} ms"),
        (None, Some(fault)) => format!("failed: {} {}", fault.code, fault.text),
        (None, None) => format!("{} at {}", summary.outcome.key(), summary.stage),
    };
    let since = duration(Timestamp::now().millis_since(summary.started));
    say!("boot {since} ago, {result}");
    for step in &boot.steps {
        say!(
            "  {:>7} ms  {:<15} {}",
            step.offset_ms,
            step.stage,
            step.detail
        );
    }
}
