//! Errors as `tonic::Status`.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::respond::pushback;
use crate::error::Error;

// === impl Error ===

impl Error {
    /// The same error, with a status among its sources: where tonic looks for one.
    pub(crate) fn with_status(self, now: Instant) -> Self {
        let mut status = status(&self, now);
        self.between(|source| {
            if let Some(source) = source {
                status.set_source(Arc::from(source));
            }
            status.into()
        })
    }
}

impl From<Error> for Status {
    /// The status that a gRPC client sees of this error, with the error as its source.
    fn from(error: Error) -> Self {
        let mut status = status(&error, Instant::now());
        status.set_source(Arc::new(error));
        status
    }
}

fn status(error: &Error, now: Instant) -> Status {
    let mut metadata = MetadataMap::new();
    if let Some(millis) = pushback(error, now) {
        metadata.insert("grpc-retry-pushback-ms", millis.into());
    }
    let code = Code::from(i32::from(error.grpc_code()));
    Status::with_metadata(code, error.grpc_message(), metadata)
}
