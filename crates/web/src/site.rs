//! Everything that the pages show, read in one go.

use dess_model::{ClientId, PoolLevel, Timestamp};
use dess_node::operations::{
    BootAttemptView, CaseView, ClientView, FloorPlan, GroupView, ImageView, JobView, NoticeView,
    OperationError, Operations,
};
use dess_node::services;
use dess_node::supervisor::protocol::ServiceStatus;
use dess_store::StoreError;

/// Notices of this many milliseconds back are shown.
const NOTICES_WITHIN_MS: u64 = 10 * 60 * 1000;
/// Jobs looked at.
const JOBS_MAX: u32 = 20;
/// Boot attempts on a client's page.
const BOOTS_MAX: u32 = 10;

/// The state of the room at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    /// The services; none if the supervisor does not answer.
    pub(crate) services: Option<Vec<ServiceStatus>>,
    /// What the database knows.
    pub(crate) records: Records,
}

/// What the database knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) name: Option<String>,
    pub(crate) clients: Vec<ClientView>,
    pub(crate) images: Vec<ImageView>,
    pub(crate) groups: Vec<GroupView>,
    pub(crate) jobs: Vec<JobView>,
    pub(crate) notices: Vec<NoticeView>,
    /// Where the seats stand.
    pub(crate) plan: FloorPlan,
    /// The open ones, the worst first.
    pub(crate) cases: Vec<CaseView>,
    /// How full the storage for clients' writes is, as far as that is known.
    pub(crate) pool: PoolLevel,
    /// Why the rest is empty.
    pub(crate) trouble: Option<Trouble>,
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The site was never set up.
    NoSite,
    /// The database cannot be read; the cause, in English.
    Database(String),
}

impl Trouble {
    pub(crate) fn of(error: &OperationError) -> Self {
        match error {
            OperationError::NoSite | OperationError::Store(StoreError::Missing { .. }) => {
                Self::NoSite
            }
            other => Self::Database(chain(other)),
        }
    }
}

/// An error with its causes, for the log and the small print.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Where the pages get their facts.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    operations: Operations,
}

impl Feed {
    pub(crate) fn new(operations: Operations) -> Self {
        Self { operations }
    }

    pub(crate) fn operations(&self) -> &Operations {
        &self.operations
    }

    pub(crate) async fn site(&self) -> Site {
        let (services, records) = tokio::join!(self.services(), self.records());
        Site { services, records }
    }

    pub(crate) async fn services(&self) -> Option<Vec<ServiceStatus>> {
        services::list(self.operations.paths()).await.ok()
    }

    pub(crate) async fn records(&self) -> Records {
        self.read().await.unwrap_or_else(|error| Records {
            trouble: Some(Trouble::of(&error)),
            ..Records::default()
        })
    }

    async fn read(&self) -> Result<Records, OperationError> {
        let site = self.operations.site().await?;
        let Some(site) = site else {
            return Err(OperationError::NoSite);
        };
        let pool = self.operations.pool_status().await;
        Ok(Records {
            name: Some(site.name),
            clients: self.operations.client_list().await?,
            images: self.operations.image_list().await?,
            groups: self.operations.group_list().await?,
            jobs: self.operations.job_list(JOBS_MAX).await?,
            notices: self.operations.notice_list(NOTICES_WITHIN_MS).await?,
            plan: self.operations.floor_plan().await?,
            cases: self.operations.case_list().await?,
            pool: pool.map_or(PoolLevel::Normal, |pool| pool.level),
            trouble: None,
        })
    }

    /// The last boots of a client, newest first.
    pub(crate) async fn boots(&self, id: ClientId) -> Result<Vec<BootAttemptView>, OperationError> {
        self.operations.client_boots(id, BOOTS_MAX).await
    }
}

impl Records {
    pub(crate) fn client(&self, id: ClientId) -> Option<&ClientView> {
        self.clients.iter().find(|client| client.id == id)
    }

    /// How many clients have their operating system up, or are on the way there.
    pub(crate) fn powered_on(&self) -> usize {
        self.clients
            .iter()
            .filter(|client| matches!(client.state.key(), "running" | "booting"))
            .count()
    }

    /// What clients without an image of their own boot.
    pub(crate) fn default_group(&self) -> Option<&GroupView> {
        self.groups.iter().find(|group| group.default)
    }
}

/// Since when a client does what it does; none while nothing is heard of it.
pub(crate) fn state_since(client: &ClientView) -> Option<Timestamp> {
    use dess_diagnosis::ClientState::{Booting, Fault, Off, Pending, Running};
    match &client.state {
        Booting { since, .. } | Running { since } | Fault { since, .. } => Some(*since),
        Pending => Some(client.created),
        Off => client.last_boot.as_ref().and_then(|boot| boot.ended),
    }
}
