//! What the commands ask for, of this server's own operations or of another server's REST API (docs/adr/0018).

mod http;
mod local;
mod remote;

use anyhow::Result;
use dess_model::{ClientId, JobId};
use dess_node::operations::{
    AssignTo, BootAttemptView, ClientAdd, ClientChange, ClientView, DataPathView, DifferenceView,
    Follow, GroupChange, GroupView, ImageView, JobView, NoticeView, Operations, Overview,
    PublishOrder, RolloutTo, RolloutView, SiteView,
};
use dess_node::supervisor::protocol::ServiceStatus;

pub(crate) use http::Server;
pub(crate) use remote::{Remote, RemoteError};

/// One site, however it is reached.
pub(crate) trait Control {
    /// The operations of this server, for what another one does not offer.
    fn local(&self) -> Result<&Operations>;

    async fn client_list(&self) -> Result<Vec<ClientView>>;
    async fn client_find(&self, text: &str) -> Result<ClientView>;
    async fn client_add(&self, client: ClientAdd) -> Result<ClientView>;
    /// Only if its settings are still those that were seen.
    async fn client_set(&self, seen: &ClientView, change: ClientChange) -> Result<ClientView>;
    async fn client_approve(&self, id: ClientId) -> Result<ClientView>;
    /// Only if its settings are still those that were seen.
    async fn client_remove(&self, seen: &ClientView, force: bool) -> Result<()>;
    async fn client_reset(&self, id: ClientId, force: bool) -> Result<()>;
    async fn client_boots(&self, id: ClientId, limit: u32) -> Result<Vec<BootAttemptView>>;

    async fn group_list(&self) -> Result<Vec<GroupView>>;
    /// Only if its settings are still those that were seen.
    async fn group_set(&self, seen: &GroupView, change: GroupChange) -> Result<GroupView>;

    async fn image_list(&self) -> Result<Vec<ImageView>>;
    async fn image_assign(&self, image: &str, to: AssignTo, follow: Follow) -> Result<()>;
    async fn image_maintain(&self, image: &str, client: ClientId) -> Result<()>;
    async fn image_publish(&self, order: PublishOrder) -> Result<JobId>;
    async fn image_discard(&self, image: &str, force: bool) -> Result<()>;
    async fn image_rollout(&self, image: &str, to: RolloutTo) -> Result<RolloutView>;
    async fn image_rollback(&self, image: &str) -> Result<RolloutView>;
    async fn version_difference(&self, one: &str, other: &str) -> Result<DifferenceView>;
    async fn version_flatten(&self, version: &str) -> Result<JobId>;
    async fn version_remove(&self, version: &str) -> Result<JobId>;

    async fn job_list(&self, limit: u32) -> Result<Vec<JobView>>;
    async fn job_get(&self, id: JobId) -> Result<JobView>;
    async fn job_cancel(&self, id: JobId) -> Result<()>;

    async fn services(&self) -> Result<Vec<ServiceStatus>>;

    async fn overview(&self) -> Result<Overview>;
    async fn site(&self) -> Result<Option<SiteView>>;
    async fn notice_list(&self, within_ms: u32) -> Result<Vec<NoticeView>>;
    /// None if the iSCSI service does not run.
    async fn data_path(&self) -> Result<Option<DataPathView>>;
}
