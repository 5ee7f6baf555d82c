//! Maintenance clients: one client of an image writes what becomes its next version.

use dess_model::{ClientId, ControlError, ImageId, JobId, TargetReply, TargetRequest, Timestamp};
use dess_store::{MaintenanceRecord, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::clients::fetch;
use super::images::Catalogue;
use super::jobs::new_job;
use super::{OperationError, Operations, Result, audit, record};
use crate::data_disks::DataDisks;

/// A version to make of what the maintenance client wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishOrder {
    /// Name of the image.
    pub image: String,
    /// For people: what is new in it.
    pub comment: String,
}

/// Longest comment in characters.
const COMMENT_MAX: usize = 500;

/// Kind of the job that publishes.
pub(crate) const IMAGE_PUBLISH: &str = "image_publish";

/// What the job needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishPayload {
    /// The image.
    pub(crate) image: ImageId,
    /// Its maintenance client.
    pub(crate) client: ClientId,
    /// For people.
    pub(crate) comment: String,
    /// Who ordered it.
    pub(crate) author: String,
}

impl Operations {
    /// Makes a client the maintenance client of an image, from its next power-on on: it writes on `image` (`name`, its
    /// newest version, or `name@version`), and what it writes stays until it is published or discarded. If the image is one of its data disks, it
    /// writes on that one; else it boots the image.
    ///
    /// # Errors
    /// If there is no such image or client, the image has a maintenance client (who is named), or the client is one
    /// of another image.
    pub async fn image_maintain(&self, image: &str, client: ClientId) -> Result<()> {
        let actor = &*self.actor;
        self.store()
            .await?
            .transact(|tx| maintain(tx, image, client, actor))
            .await?;
        self.publish().await;
        Ok(())
    }

    /// Ends the writing of the maintenance client and queues the job that makes the next version of what it wrote; `node`
    /// carries it out. Nobody boots the version before it is rolled out, but for clients that follow the latest one.
    ///
    /// # Errors
    /// If the image has no maintenance client, that client runs or has never powered on, or the iSCSI service is down.
    pub async fn image_publish_start(&self, order: PublishOrder) -> Result<JobId> {
        if order.comment.chars().count() > COMMENT_MAX {
            let reason = format!("at most {COMMENT_MAX} characters");
            return Err(OperationError::invalid("comment", reason));
        }
        let maintenance = self.maintenance_of(&order.image).await?;
        let client = maintenance.client;
        self.refuse_second_publication(client).await?;
        let seal = self.ask_target(&TargetRequest::Seal { client }).await;
        match self.named(client, seal).await? {
            Some(TargetReply::Sealed(_)) => {}
            Some(_) | None => return Err(target_is_down("it holds what the client wrote")),
        }
        let id = JobId(Uuid::now_v7());
        let payload = PublishPayload {
            image: maintenance.version.image,
            client,
            comment: order.comment,
            author: self.actor.as_ref().to_owned(),
        };
        let job = &new_job(id, IMAGE_PUBLISH, &order.image, json!(payload));
        let (actor, details) = (
            &*self.actor,
            &json!({"job": id, "comment": payload.comment}),
        );
        self.store()
            .await?
            .transact(|mut tx| async move {
                tx.job_insert(job).await?;
                audit(
                    &mut tx,
                    actor,
                    "image.publish",
                    &job.subject,
                    details.clone(),
                )
                .await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        Ok(id)
    }

    /// Drops what the maintenance client wrote and ends the maintenance. Refused while it runs, unless `force` (its
    /// sessions then end).
    ///
    /// # Errors
    /// If the image has no maintenance client, that client runs, its work is being published, or the iSCSI service is
    /// down.
    pub async fn image_discard(&self, image: &str, force: bool) -> Result<()> {
        let maintenance = self.maintenance_of(image).await?;
        let client = maintenance.client;
        self.refuse_second_publication(client).await?;
        let discard = TargetRequest::Discard { client, force };
        let discarded = match self.ask_target(&discard).await {
            // It became the maintenance client so lately that there is nothing to drop.
            Err(OperationError::Target(ControlError::UnknownClient { .. })) => {
                Ok(Some(TargetReply::Done))
            }
            answer => answer,
        };
        if self.named(client, discarded).await?.is_none() {
            return Err(target_is_down("it holds what the client wrote"));
        }
        let (actor, image_id) = (&*self.actor, maintenance.version.image);
        self.store()
            .await?
            .transact(|mut tx| async move {
                tx.maintenance_delete(image_id).await?;
                let details = json!({"client": client, "force": force});
                record(&mut tx, actor, "image.discard", image, details).await?;
                Result::Ok(())
            })
            .await?;
        self.publish().await;
        Ok(())
    }

    /// The maintenance client of an image.
    async fn maintenance_of(&self, image: &str) -> Result<MaintenanceRecord> {
        let mut tx = self.read().await?;
        let id = Catalogue::read(&mut tx).await?.image(image)?.id;
        let maintenances = tx.maintenance_list().await?;
        let found = maintenances
            .into_iter()
            .find(|maintenance| maintenance.version.image == id);
        found.ok_or_else(|| {
            let reason =
                format!("{image} has no maintenance client; begin with `dess image maintain`");
            OperationError::Refused(reason)
        })
    }

    async fn refuse_second_publication(&self, client: ClientId) -> Result<()> {
        let jobs = self.read().await?.job_list_open().await?;
        let publishes = |payload: &str| {
            serde_json::from_str::<PublishPayload>(payload)
                .is_ok_and(|payload| payload.client == client)
        };
        let open = jobs
            .iter()
            .find(|job| job.kind == IMAGE_PUBLISH && publishes(&job.payload));
        match open {
            Some(job) => Err(OperationError::Refused(format!(
                "{} is being published already (job {})",
                job.subject, job.id
            ))),
            None => Ok(()),
        }
    }

    /// Names the client that runs, for people.
    async fn named<T>(&self, client: ClientId, answer: Result<T>) -> Result<T> {
        match answer {
            Err(OperationError::Target(ControlError::Running { .. })) => {
                let client = self.client_get(client).await?;
                Err(OperationError::Refused(format!(
                    "the maintenance client, seat {} ({}), is running; shut it down first (if it was switched off just now, try again in a minute)",
                    client.seat, client.name
                )))
            }
            answer => answer,
        }
    }

    /// Refuses what would lose the work of a maintenance client.
    pub(super) async fn refuse_if_maintaining(&self, id: ClientId) -> Result<()> {
        let mut tx = self.read().await?;
        let maintenances = tx.maintenance_list().await?;
        let Some(found) = maintenances.iter().find(|record| record.client == id) else {
            return Ok(());
        };
        let label = Catalogue::read(&mut tx).await?.label(found.version);
        Err(OperationError::Refused(format!(
            "it is the maintenance client of {label}; publish or discard that first"
        )))
    }
}

async fn maintain(mut tx: Tx, image: &str, id: ClientId, actor: &str) -> Result<()> {
    let catalogue = Catalogue::read(&mut tx).await?;
    let version = catalogue.find(image)?;
    let client = fetch(&mut tx, id).await?;
    if !client.approved {
        return Err(ControlError::NotApproved { client: id }.into());
    }
    for other in tx.maintenance_list().await? {
        let label = catalogue.label(other.version);
        if other.version.image == version.image {
            let holder = fetch(&mut tx, other.client).await?;
            return Err(OperationError::Refused(format!(
                "seat {} ({}) is the maintenance client of {label} already; publish or discard that first",
                holder.seat, holder.name
            )));
        }
        if other.client == id {
            return Err(OperationError::Refused(format!(
                "seat {} ({}) is the maintenance client of {label}; publish or discard that first",
                client.seat, client.name
            )));
        }
    }
    let disks = DataDisks::read(&mut tx).await?.of_client(&client, None);
    let data = disks
        .iter()
        .find(|disk| disk.version.image == version.image);
    tx.maintenance_insert(&MaintenanceRecord {
        client: id,
        version,
        data_lun: data.map(|disk| disk.lun),
        actor: actor.to_owned(),
        created: Timestamp::now(),
    })
    .await?;
    let lun = data.map(|disk| disk.lun);
    let details = json!({"client": client.name, "seat": client.seat, "data_disk": lun});
    record(
        &mut tx,
        actor,
        "image.maintain",
        &catalogue.label(version),
        details,
    )
    .await?;
    Ok(())
}

pub(super) fn target_is_down(why: &str) -> OperationError {
    OperationError::Refused(format!(
        "the iSCSI service does not run, and {why}; start it first"
    ))
}

/// Maintenance is no choice of a client or group.
pub(super) fn no_maintenance_policy() -> OperationError {
    OperationError::invalid(
        "policy",
        "a maintenance client is chosen with `dess image maintain`",
    )
}
