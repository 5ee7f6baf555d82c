//! Another server, through its REST API.

use anyhow::{Context, Result, bail};
use axum::http::Method;
use dess_model::{ClientId, JobId};
use dess_node::operations::{
    AssignTo, BootAttemptView, ClientAdd, ClientChange, ClientView, DataPathView, DifferenceView,
    Follow, GroupChange, GroupView, ImageView, JobView, NoticeView, Operations, Overview,
    PublishOrder, RolloutTo, RolloutView, SiteView,
};
use dess_node::supervisor::protocol::ServiceStatus;
use dess_web::api::{
    AssignOrder, DataPathAnswer, MaintainOrder, Page, ProblemDetails, PublishNote, RolloutOrder,
    ServicesView, escaped,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Control;
use super::http::{EMPTY, Server};

/// Clients of one request.
const PAGE: u32 = 1000;

/// Why another server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// It cannot be reached, or is no DESS server.
    #[error("{url} cannot be used: {reason}")]
    Unreachable {
        /// As given.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It says why.
    #[error("{}", .0.detail)]
    Problem(Box<ProblemDetails>),
}

/// Another server.
pub(crate) struct Remote(pub(crate) Server);

impl Remote {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.0.send(Method::GET, path, None, EMPTY).await?.json()
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.0
            .send(Method::POST, path, None, Some(body))
            .await?
            .json()
    }

    /// A POST without a body.
    async fn order<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.0.send(Method::POST, path, None, EMPTY).await?.json()
    }

    async fn job(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<JobId> {
        let job: JobView = self.0.send(method, path, None, body).await?.json()?;
        Ok(job.id)
    }
}

/// `name` or `name@version`.
fn versioned(image: &str) -> Result<(String, Option<u32>)> {
    let (name, number) = match image.split_once('@') {
        Some((name, number)) => {
            let number = number.parse();
            (
                name,
                Some(number.with_context(|| format!("\"{image}\" is no name@version"))?),
            )
        }
        None => (image, None),
    };
    Ok((escaped(name), number))
}

/// `name@version`.
fn one_version(version: &str) -> Result<(String, u32)> {
    match versioned(version)? {
        (name, Some(number)) => Ok((name, number)),
        (_, None) => bail!("write it as {version}@ and the number of the version"),
    }
}

impl Control for Remote {
    fn local(&self) -> Result<&Operations> {
        bail!("this works only on the server itself, without --server")
    }

    async fn client_list(&self) -> Result<Vec<ClientView>> {
        let mut clients = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut path = format!("/clients?limit={PAGE}");
            if let Some(cursor) = cursor {
                path.push_str(&format!("&cursor={}", escaped(&cursor)));
            }
            let page: Page<ClientView> = self.get(&path).await?;
            clients.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(clients);
            }
        }
    }

    async fn client_find(&self, text: &str) -> Result<ClientView> {
        self.get(&format!("/clients/{}", escaped(text.trim())))
            .await
    }

    async fn client_add(&self, client: ClientAdd) -> Result<ClientView> {
        self.post("/clients", &client).await
    }

    async fn client_set(&self, seen: &ClientView, change: ClientChange) -> Result<ClientView> {
        let path = format!("/clients/{}", seen.id);
        let revision = Some(seen.revision.0.as_str());
        let answer = self.0.send(Method::PATCH, &path, revision, Some(&change));
        answer.await?.json()
    }

    async fn client_approve(&self, id: ClientId) -> Result<ClientView> {
        self.order(&format!("/clients/{id}/approve")).await
    }

    async fn client_remove(&self, seen: &ClientView, force: bool) -> Result<()> {
        let path = format!("/clients/{}?force={force}", seen.id);
        let revision = Some(seen.revision.0.as_str());
        self.0.send(Method::DELETE, &path, revision, EMPTY).await?;
        Ok(())
    }

    async fn client_reset(&self, id: ClientId, force: bool) -> Result<()> {
        let path = format!("/clients/{id}/reset?force={force}");
        self.0.send(Method::POST, &path, None, EMPTY).await?;
        Ok(())
    }

    async fn client_boots(&self, id: ClientId, limit: u32) -> Result<Vec<BootAttemptView>> {
        self.get(&format!("/clients/{id}/boots?limit={limit}"))
            .await
    }

    async fn group_list(&self) -> Result<Vec<GroupView>> {
        self.get("/groups").await
    }

    async fn group_set(&self, seen: &GroupView, change: GroupChange) -> Result<GroupView> {
        let path = format!("/groups/{}", seen.id);
        let revision = Some(seen.revision.0.as_str());
        let answer = self.0.send(Method::PATCH, &path, revision, Some(&change));
        answer.await?.json()
    }

    async fn image_list(&self) -> Result<Vec<ImageView>> {
        self.get("/images").await
    }

    async fn image_assign(&self, image: &str, to: AssignTo, follow: Follow) -> Result<()> {
        let (name, version) = versioned(image)?;
        let client = match to {
            AssignTo::DefaultGroup => None,
            AssignTo::Client(id) => Some(id),
        };
        let order = AssignOrder {
            version,
            client,
            follow,
        };
        let path = format!("/images/{name}/assign");
        self.0.send(Method::POST, &path, None, Some(&order)).await?;
        Ok(())
    }

    async fn image_maintain(&self, image: &str, client: ClientId) -> Result<()> {
        let (name, version) = versioned(image)?;
        let order = MaintainOrder { client, version };
        let path = format!("/images/{name}/maintain");
        self.0.send(Method::POST, &path, None, Some(&order)).await?;
        Ok(())
    }

    async fn image_publish(&self, order: PublishOrder) -> Result<JobId> {
        let path = format!("/images/{}/publish", escaped(&order.image));
        let comment = order.comment;
        self.job(Method::POST, &path, Some(&PublishNote { comment }))
            .await
    }

    async fn image_discard(&self, image: &str, force: bool) -> Result<()> {
        let path = format!("/images/{}/discard?force={force}", escaped(image));
        self.0.send(Method::POST, &path, None, EMPTY).await?;
        Ok(())
    }

    async fn image_rollout(&self, image: &str, to: RolloutTo) -> Result<RolloutView> {
        let (name, version) = versioned(image)?;
        let order = RolloutOrder { version, to };
        self.post(&format!("/images/{name}/rollout"), &order).await
    }

    async fn image_rollback(&self, image: &str) -> Result<RolloutView> {
        self.order(&format!("/images/{}/rollback", escaped(image)))
            .await
    }

    async fn version_difference(&self, one: &str, other: &str) -> Result<DifferenceView> {
        let ((image, from), (second, to)) = (one_version(one)?, one_version(other)?);
        if image != second {
            bail!("{one} and {other} are not of the same image");
        }
        self.get(&format!("/images/{image}/difference?from={from}&to={to}"))
            .await
    }

    async fn version_flatten(&self, version: &str) -> Result<JobId> {
        let (name, number) = one_version(version)?;
        let path = format!("/images/{name}/versions/{number}/flatten");
        self.job(Method::POST, &path, EMPTY).await
    }

    async fn version_remove(&self, version: &str) -> Result<JobId> {
        let (name, number) = one_version(version)?;
        let path = format!("/images/{name}/versions/{number}");
        self.job(Method::DELETE, &path, EMPTY).await
    }

    async fn job_list(&self, limit: u32) -> Result<Vec<JobView>> {
        let page: Page<JobView> = self.get(&format!("/jobs?limit={limit}")).await?;
        Ok(page.items)
    }

    async fn job_get(&self, id: JobId) -> Result<JobView> {
        self.get(&format!("/jobs/{id}")).await
    }

    async fn job_cancel(&self, id: JobId) -> Result<()> {
        let path = format!("/jobs/{id}/cancel");
        self.0.send(Method::POST, &path, None, EMPTY).await?;
        Ok(())
    }

    async fn services(&self) -> Result<Vec<ServiceStatus>> {
        let seen: ServicesView = self.get("/services").await?;
        if !seen.supervised {
            bail!("nobody looks after the services of that server");
        }
        Ok(seen.services)
    }

    async fn overview(&self) -> Result<Overview> {
        self.get("/overview").await
    }

    async fn site(&self) -> Result<Option<SiteView>> {
        self.get("/site").await.map(Some)
    }

    async fn notice_list(&self, within_ms: u32) -> Result<Vec<NoticeView>> {
        self.get(&format!("/notices?within_ms={within_ms}")).await
    }

    async fn data_path(&self) -> Result<Option<DataPathView>> {
        let answer: DataPathAnswer = self.get("/data-path").await?;
        Ok(answer.running.then_some(answer.seen))
    }
}
