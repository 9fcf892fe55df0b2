//! What becomes of requests: `retry.linkerd.io/` and `timeout.linkerd.io/`.

use std::time::Duration;

use super::reader::{Invalid, Reader};
use crate::policy::{Retry, RetryBuilder, Timeouts};
use crate::source::kubernetes::diagnostic::Severity;
use crate::source::kubernetes::grammar;
use crate::source::kubernetes::keys;
use crate::source::kubernetes::kind::Kind;

/// For HTTP, for gRPC.
pub(super) type Retries = (
    Result<Option<Retry>, Invalid>,
    Result<Option<Retry>, Invalid>,
);

// === impl Reader ===

impl Reader<'_> {
    /// Of a route, or of a Service, which has both lists. For each protocol its own list, and the rest for both.
    pub(super) fn retry(&mut self, route: Option<Kind>) -> Retries {
        let (http, grpc) = (route != Some(Kind::Grpc), route != Some(Kind::Http));
        let statuses = match http {
            true => self.read(keys::RETRY_HTTP, grammar::statuses),
            false => Ok(None),
        };
        let codes = match grpc {
            true => self.read(keys::RETRY_GRPC, grammar::grpc_codes),
            false => Ok(None),
        };
        let limit = self.read(keys::RETRY_LIMIT, grammar::limit);
        let timeout = self.read(keys::RETRY_TIMEOUT, grammar::duration);
        let no_list = matches!((&statuses, &codes), (Ok(None), Ok(None)));
        let (Ok(limit), Ok(timeout)) = (limit, timeout) else {
            return (Err(Invalid), Err(Invalid));
        };
        let (zero, limit) = (limit == Some(0), limit.filter(|limit| *limit > 0));
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        let both = limit.is_some() || timeout.is_some();
        if let (true, true, Some(found)) = (zero, !no_list || both, self.find(keys::RETRY_LIMIT)) {
            self.say(
                Severity::Warning,
                found,
                "0 is the same as no annotation, so that the limit is 1: retries are not turned off",
                "take the other retry.linkerd.io annotations away to turn retries off",
            );
        }
        let named = [keys::RETRY_LIMIT, keys::RETRY_TIMEOUT];
        let found = named.iter().find_map(|key| self.find(key));
        if let (true, true, Some(found)) = (no_list, both, found) {
            let key = match route {
                Some(Kind::Grpc) => format!("add {}: unavailable to retry codes", keys::RETRY_GRPC),
                _ => format!(
                    "add {}: 5xx or gateway-error to retry statuses",
                    keys::RETRY_HTTP
                ),
            };
            self.say(
                Severity::Note,
                found,
                "no status is retried, only what is always worth it (a try that timed out, a request refused unprocessed)",
                &key,
            );
        }
        let rest = |mut retry: RetryBuilder| {
            retry = retry.limit(limit.unwrap_or(1));
            if let Some(timeout) = timeout {
                retry = retry.timeout(timeout);
            }
            retry.build()
        };
        let statuses = statuses.and_then(|statuses| {
            if !http || (statuses.is_none() && !both) {
                return Ok(None);
            }
            let retry = Retry::never_on_status();
            let ranges = statuses.into_iter().flatten();
            let retry = rest(ranges.fold(retry, RetryBuilder::and_on));
            retry
                .map(Some)
                .map_err(|e| self.blame(keys::RETRY_HTTP, &e))
        });
        let codes = codes.and_then(|codes| {
            if !grpc || (codes.is_none() && !both) {
                return Ok(None);
            }
            let retry = rest(Retry::on_codes(codes.into_iter().flatten()));
            retry
                .map(Some)
                .map_err(|e| self.blame(keys::RETRY_GRPC, &e))
        });
        (statuses, codes)
    }

    pub(super) fn timeouts(&mut self) -> Result<Timeouts, Invalid> {
        let [request, response, idle] = [
            keys::TIMEOUT_REQUEST,
            keys::TIMEOUT_RESPONSE,
            keys::TIMEOUT_IDLE,
        ]
        .map(|key| {
            let timeout = self.read(key, grammar::duration);
            if let (Ok(Some(Duration::ZERO)), Some(found)) = (&timeout, self.find(key)) {
                self.say(
                    Severity::Warning,
                    found,
                    "0 is not \"no timeout\": every request would time out at once, as in the mesh",
                    "take the annotation away for no timeout",
                );
            }
            timeout
        });
        Ok(Timeouts {
            request: request?,
            response: response?,
            idle: idle?,
        })
    }

    /// Limits that are never met, for the whole request ends before.
    pub(super) fn never_met(&mut self, timeouts: &Timeouts, retries: [Option<&Retry>; 2]) {
        let Some(request) = timeouts.request.filter(|request| !request.is_zero()) else {
            return;
        };
        let retry = retries.into_iter().flatten().find_map(Retry::timeout);
        for (key, limit, then) in [
            (keys::TIMEOUT_RESPONSE, timeouts.response, ""),
            (keys::TIMEOUT_IDLE, timeouts.idle, ""),
            (
                keys::RETRY_TIMEOUT,
                retry,
                "no try is given up for the next one: ",
            ),
        ] {
            if let (Some(limit), Some(found)) = (limit, self.find(key))
                && limit >= request
            {
                self.say(
                    Severity::Warning,
                    found,
                    &format!(
                        "has no effect: {then}after {request:?} the whole request is over ({})",
                        keys::TIMEOUT_REQUEST
                    ),
                    &format!(
                        "make it the shorter of the two, or {} longer",
                        keys::TIMEOUT_REQUEST
                    ),
                );
            }
        }
    }
}
