//! One row for every item of the mesh's reference (`names.txt`): manifests, who asks for what, and what the answer says.
//!
//! The expected pieces were written by hand, from the reference. They are looked for in the text of `explain`, which says
//! everything that a policy holds.

mod annotations;
mod others;
mod routes;

use super::super::{Manifests, Severity};
use crate::policy::Fidelity;
use http::Request;

/// Name, manifests, who asks for what (`TARGET`, then `from NS`, `as GET /path`, `extended`), and what must be said; with a
/// `!` before it, what must not.
type Row = (&'static str, String, &'static str, &'static [&'static str]);

/// A Service with one port.
fn service(name: &str, namespace: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{ports: [{{port: 80}}]{more}}}\n"
    )
}

/// `web.shop:80` with annotations, separated by `;`.
fn web(annotations: &str) -> String {
    let mut text =
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\n"
            .to_owned();
    if !annotations.is_empty() {
        text += "  annotations:\n";
        for annotation in annotations.split(';') {
            text += &format!("    {}\n", annotation.trim());
        }
    }
    text + "spec: {ports: [{port: 80}]}\n"
}

/// A route of `gateway.networking.k8s.io` for `web.shop`; `head` are annotations in braces, `spec` is in flow style.
fn route(kind: &str, namespace: &str, name: &str, head: &str, spec: &str) -> String {
    object(
        "gateway.networking.k8s.io/v1",
        kind,
        namespace,
        name,
        head,
        spec,
    )
}

fn object(
    version: &str,
    kind: &str,
    namespace: &str,
    name: &str,
    head: &str,
    spec: &str,
) -> String {
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}{head}}}\nspec: {{{spec}}}\n"
    )
}

/// An HTTPRoute of `web.shop` with these rules.
fn http(head: &str, rules: &str) -> String {
    route(
        "HTTPRoute",
        "shop",
        "r",
        head,
        &format!("{WEB}, rules: [{rules}]"),
    )
}

const WEB: &str = "parentRefs: [{name: web, namespace: shop, kind: Service, group: core}]";

fn explained(manifests: &str, ask: &str) -> String {
    let mut words = ask.split(' ');
    let target = words.next().unwrap();
    let mut manifests = Manifests::parse_named("m.yaml", manifests)
        .unwrap_or_else(|error| panic!("{error}\n{manifests}"))
        .fidelity(Fidelity::Mesh);
    let mut request = None;
    while let Some(word) = words.next() {
        match word {
            "from" => manifests = manifests.client_namespace(words.next().unwrap()),
            "extended" => manifests = manifests.fidelity(Fidelity::Extended),
            "as" => {
                let (method, uri) = (words.next().unwrap(), words.next().unwrap());
                let built = Request::builder().method(method).uri(uri).body(());
                request = Some(built.unwrap());
            }
            other => panic!("{other}"),
        }
    }
    let mut explanation = manifests.explain(target);
    if let Some(request) = request {
        explanation = explanation.request(&request);
    }
    explanation.to_text(|_| None)
}

#[test]
fn every_item_has_its_row_and_every_row_its_item() {
    let names: Vec<&str> = include_str!("names.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let rows = rows();
    let mut have: Vec<&str> = rows.iter().map(|row| row.0).collect();
    // An item may have several rows, one after the other.
    have.dedup();
    assert_eq!(have, names);
}

#[test]
fn every_row_is_as_the_reference_says() {
    let mut wrong = Vec::new();
    for (name, manifests, ask, pieces) in rows() {
        let text = explained(&manifests, ask);
        for piece in pieces {
            let found = match piece.strip_prefix('!') {
                Some(piece) => !text.contains(piece),
                None => text.contains(piece),
            };
            if !found {
                wrong.push(format!("{name}: {piece:?} in\n{text}\nof\n{manifests}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n=====\n"));
}

fn rows() -> Vec<Row> {
    let mut rows = annotations::rows();
    rows.extend(routes::rows());
    rows.extend(others::rows());
    rows
}

#[test]
fn strict_takes_warnings_for_errors() {
    let text = web("retry.linkerd.io/limti: '3'");
    let manifests = Manifests::parse(&text).unwrap();
    assert!(manifests.resolve("web.shop:80").is_ok());
    let strict = manifests.strict();
    assert_eq!(strict.diagnostics()[0].severity, Severity::Error);
    let error = strict.resolve("web.shop:80").unwrap_err();
    assert_eq!(error.kind(), super::super::ErrorKind::Strict);
    assert!(
        error
            .to_string()
            .contains("did you mean retry.linkerd.io/limit?"),
        "{error}"
    );
    let out = "---\napiVersion: policy.linkerd.io/v1alpha1\nkind: EgressNetwork\nmetadata: {name: out, namespace: shop}\n\
               spec: {trafficPolicy: Allow, trafficPolice: Deny}\n";
    let out = Manifests::parse(out).unwrap().client_namespace("shop");
    assert!(out.resolve("203.0.113.7:443").is_ok());
    let error = out.strict().resolve("203.0.113.7:443").unwrap_err();
    assert!(
        error.to_string().contains("did you mean trafficPolicy?"),
        "{error}"
    );
    // What is about others is no business of this target.
    let text = text + &service("other", "shop", "");
    let other = Manifests::parse(&text).unwrap().strict();
    assert!(other.resolve("other.shop:80").is_ok());
}
