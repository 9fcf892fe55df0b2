mod bad;
mod careless;
mod diagnostics;
mod explain;
mod folder;
mod fuzz;
mod good;
mod grammar;
mod many;
mod mistakes;
mod refused;
#[cfg(feature = "reload")]
mod reload;
mod table;

use super::{Error, Manifests};
use crate::policy::ClientPolicy;

/// The manifest of the examples.
const PAYMENTS: &str = include_str!("../../../../examples/manifests/payments.yaml");

/// `payments.shop:8080` with these lines as annotations, the first of them in line 7, its key in column 5.
fn service(annotations: &str) -> String {
    let annotations: Vec<_> = annotations
        .lines()
        .map(|line| format!("    {}\n", line.trim()))
        .collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: payments\n  namespace: shop\n  annotations:\n{}\
         spec:\n  ports:\n    - port: 8080\n",
        annotations.concat()
    )
}

fn resolve(text: &str) -> Result<ClientPolicy, Error> {
    Manifests::parse_named("payments.yaml", text)?.resolve("payments.shop:8080")
}
