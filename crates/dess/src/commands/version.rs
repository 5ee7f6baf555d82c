//! `dess image`: maintenance, roll-out and versions.

use anyhow::Result;
use dess_node::operations::{RolloutTo, RolloutView};

use super::confirmed;
use super::image::conclude;
use crate::arguments::RolloutArguments;
use crate::control::Control;
use crate::output::{self, bytes, say};

pub(super) async fn maintain(
    control: &impl Control,
    image: String,
    client: &str,
    version: Option<u32>,
) -> Result<()> {
    let client = control.client_find(client).await?;
    let image = match version {
        Some(number) => format!("{image}@{number}"),
        None => image,
    };
    control.image_maintain(&image, client.id).await?;
    say!(
        "seat {} ({}) writes on {image} from its next power-on on; then shut it down and publish, or discard",
        client.seat,
        client.name
    );
    Ok(())
}

pub(super) async fn discard(
    control: &impl Control,
    image: &str,
    force: bool,
    yes: bool,
) -> Result<()> {
    let question = format!("Drop everything that the maintenance client of {image} has written?");
    if confirmed(&question, yes)? {
        control.image_discard(image, force).await?;
        say!("the maintenance of {image} has ended; nothing of it was published");
    }
    Ok(())
}

pub(super) async fn rollout(
    control: &impl Control,
    arguments: RolloutArguments,
    json: bool,
) -> Result<()> {
    let to = match arguments.all {
        true => RolloutTo::All,
        false => {
            let mut clients = Vec::new();
            for client in &arguments.clients {
                clients.push(control.client_find(client).await?.id);
            }
            RolloutTo::Clients(clients)
        }
    };
    let view = control.image_rollout(&arguments.image, to).await?;
    if json {
        return output::json(&view);
    }
    say!(
        "{} boot {} from their next power-on on",
        counted(&view),
        view.label
    );
    Ok(())
}

pub(super) async fn rollback(control: &impl Control, image: &str, json: bool) -> Result<()> {
    let view = control.image_rollback(image).await?;
    if json {
        return output::json(&view);
    }
    say!(
        "the roll-out of {} is taken back: {} boot what they did before, from their next power-on on",
        view.label,
        counted(&view)
    );
    Ok(())
}

fn counted(view: &RolloutView) -> String {
    match view.clients {
        0 => "no further clients".to_owned(),
        1 => format!("1 client, seat {},", view.names.join(", ")),
        count @ 2..=10 => format!("{count} clients, seats {},", view.names.join(", ")),
        count => format!("{count} clients"),
    }
}

pub(super) async fn diff(control: &impl Control, one: &str, other: &str, json: bool) -> Result<()> {
    let view = control.version_difference(one, other).await?;
    if json {
        return output::json(&view);
    }
    say!(
        "{} between {} and {} (counted in units of {})",
        bytes(view.changed_bytes),
        view.one,
        view.other,
        bytes(view.unit_bytes)
    );
    Ok(())
}

pub(super) async fn remove(
    control: &impl Control,
    version: &str,
    yes: bool,
    json: bool,
) -> Result<()> {
    if confirmed(&format!("Remove {version} with its content?"), yes)? {
        let job = control.version_remove(version).await?;
        conclude(control, job, "removed", false, json).await?;
    }
    Ok(())
}
