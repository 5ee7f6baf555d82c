//! The built-in supervisor (`dess up`), asked over its control socket.

use std::time::Duration;

use dess_model::ServiceName;
use dess_model::host::{Paths, request};

use super::ServiceManager;
use crate::supervisor::protocol::{ServiceStatus, SupervisorReply, SupervisorRequest};
use crate::supervisor::{RESTART_WAIT, ServiceRequestError};

/// How long the supervisor may take to answer; beyond its wait for a service, when it restarts one.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// How long a service may take to end before it is restarted.
const STOP_WAIT: Duration = Duration::from_secs(15);

/// The supervisor of `dess up`.
#[derive(Debug)]
pub struct Supervised<'a> {
    paths: &'a Paths,
}

impl<'a> Supervised<'a> {
    /// The supervisor that runs in this runtime directory.
    pub fn new(paths: &'a Paths) -> Self {
        Self { paths }
    }

    async fn ask(
        &self,
        question: SupervisorRequest,
        limit: Duration,
    ) -> Result<SupervisorReply, ServiceRequestError> {
        Ok(request(&self.paths.supervisor_control(), &question, limit).await?)
    }
}

fn unexpected() -> ServiceRequestError {
    ServiceRequestError::Refused {
        message: "unexpected answer".into(),
    }
}

impl ServiceManager for Supervised<'_> {
    async fn list(&self) -> Result<Vec<ServiceStatus>, ServiceRequestError> {
        match self.ask(SupervisorRequest::List, ANSWER_WAIT).await? {
            SupervisorReply::Services { services } => Ok(services),
            SupervisorReply::Error { message } => Err(ServiceRequestError::Refused { message }),
            SupervisorReply::Restarted { .. } => Err(unexpected()),
        }
    }

    async fn restart(&self, service: ServiceName) -> Result<ServiceStatus, ServiceRequestError> {
        let question = SupervisorRequest::Restart { service };
        match self.ask(question, RESTART_WAIT + STOP_WAIT).await? {
            SupervisorReply::Restarted { service } => Ok(service),
            SupervisorReply::Error { message } => Err(ServiceRequestError::Refused { message }),
            SupervisorReply::Services { .. } => Err(unexpected()),
        }
    }
}
