//! This server: in-process, so that a command works with everything else dead.

use anyhow::Result;
use dess_model::{ClientId, JobId};
use dess_node::operations::{
    AssignTo, BootAttemptView, ClientAdd, ClientChange, ClientView, DataPathView, DifferenceView,
    Follow, GroupChange, GroupView, ImageView, JobView, NoticeView, Operations, Overview,
    PublishOrder, RolloutTo, RolloutView, SiteView,
};
use dess_node::services;
use dess_node::supervisor::protocol::ServiceStatus;

use super::Control;

impl Control for Operations {
    fn local(&self) -> Result<&Operations> {
        Ok(self)
    }

    async fn client_list(&self) -> Result<Vec<ClientView>> {
        Ok(Operations::client_list(self).await?)
    }

    async fn client_find(&self, text: &str) -> Result<ClientView> {
        Ok(Operations::client_find(self, text).await?)
    }

    async fn client_add(&self, client: ClientAdd) -> Result<ClientView> {
        Ok(Operations::client_add(self, client).await?)
    }

    async fn client_set(&self, seen: &ClientView, change: ClientChange) -> Result<ClientView> {
        Ok(self
            .client_set_if(seen.id, change, Some(&seen.revision))
            .await?)
    }

    async fn client_approve(&self, id: ClientId) -> Result<ClientView> {
        Ok(Operations::client_approve(self, id).await?)
    }

    async fn client_remove(&self, seen: &ClientView, force: bool) -> Result<()> {
        Ok(self
            .client_remove_if(seen.id, force, Some(&seen.revision))
            .await?)
    }

    async fn client_reset(&self, id: ClientId, force: bool) -> Result<()> {
        Operations::client_reset(self, id, force).await?;
        Ok(())
    }

    async fn client_boots(&self, id: ClientId, limit: u32) -> Result<Vec<BootAttemptView>> {
        Ok(Operations::client_boots(self, id, limit).await?)
    }

    async fn group_list(&self) -> Result<Vec<GroupView>> {
        Ok(Operations::group_list(self).await?)
    }

    async fn group_set(&self, seen: &GroupView, change: GroupChange) -> Result<GroupView> {
        Ok(Operations::group_set(self, seen.id, change, Some(&seen.revision)).await?)
    }

    async fn image_list(&self) -> Result<Vec<ImageView>> {
        Ok(Operations::image_list(self).await?)
    }

    async fn image_assign(&self, image: &str, to: AssignTo, follow: Follow) -> Result<()> {
        Ok(Operations::image_assign(self, Some(image), to, follow).await?)
    }

    async fn image_maintain(&self, image: &str, client: ClientId) -> Result<()> {
        Ok(Operations::image_maintain(self, image, client).await?)
    }

    async fn image_publish(&self, order: PublishOrder) -> Result<JobId> {
        Ok(self.image_publish_start(order).await?)
    }

    async fn image_discard(&self, image: &str, force: bool) -> Result<()> {
        Ok(Operations::image_discard(self, image, force).await?)
    }

    async fn image_rollout(&self, image: &str, to: RolloutTo) -> Result<RolloutView> {
        Ok(Operations::image_rollout(self, image, to).await?)
    }

    async fn image_rollback(&self, image: &str) -> Result<RolloutView> {
        Ok(Operations::image_rollback(self, image).await?)
    }

    async fn version_difference(&self, one: &str, other: &str) -> Result<DifferenceView> {
        Ok(Operations::version_difference(self, one, other).await?)
    }

    async fn version_flatten(&self, version: &str) -> Result<JobId> {
        Ok(self.version_flatten_start(version).await?)
    }

    async fn version_remove(&self, version: &str) -> Result<JobId> {
        Ok(Operations::version_remove(self, version).await?)
    }

    async fn job_list(&self, limit: u32) -> Result<Vec<JobView>> {
        Ok(Operations::job_list(self, limit).await?)
    }

    async fn job_get(&self, id: JobId) -> Result<JobView> {
        Ok(Operations::job_get(self, id).await?)
    }

    async fn job_cancel(&self, id: JobId) -> Result<()> {
        Ok(Operations::job_cancel(self, id).await?)
    }

    async fn services(&self) -> Result<Vec<ServiceStatus>> {
        Ok(services::list(self.paths()).await?)
    }

    async fn overview(&self) -> Result<Overview> {
        Ok(Operations::overview(self).await?)
    }

    async fn site(&self) -> Result<Option<SiteView>> {
        Ok(Operations::site(self).await?)
    }

    async fn notice_list(&self, within_ms: u32) -> Result<Vec<NoticeView>> {
        Ok(Operations::notice_list(self, within_ms.into()).await?)
    }

    async fn data_path(&self) -> Result<Option<DataPathView>> {
        Ok(Operations::data_path(self).await?)
    }
}
