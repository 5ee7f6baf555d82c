//! Changes with a report that may only be tried: the report comes out either way.

use dess_store::StoreError;

use super::{OperationError, Operations, Result};

/// Why the transaction of such a change is undone.
pub(super) enum Undone<Report> {
    /// It was only tried, or the report tells what is wrong.
    Reported(Report),
    /// It could not be carried out.
    Failed(OperationError),
}

impl<Report> From<OperationError> for Undone<Report> {
    fn from(error: OperationError) -> Self {
        Self::Failed(error)
    }
}

impl<Report> From<StoreError> for Undone<Report> {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Operations {
    /// The report of a change; one that was carried out is published.
    pub(super) async fn reported<Report>(
        &self,
        ended: std::result::Result<Report, Undone<Report>>,
    ) -> Result<Report> {
        match ended {
            Ok(report) => {
                self.publish().await;
                Ok(report)
            }
            Err(Undone::Reported(report)) => Ok(report),
            Err(Undone::Failed(error)) => Err(error),
        }
    }
}
