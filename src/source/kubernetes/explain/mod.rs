//! What manifests will do to the requests for a target, for people and for machines.

mod json;
mod source;
mod text;
mod tree;
mod words;

use http::Request;

use self::tree::Asked;
use super::diagnostic::{Diagnostic, Severity};
use super::error::Error;
use super::{Manifests, Target};
use crate::policy::{ClientPolicy, Fidelity};

/// What manifests come to for one target: the policy, where a request goes, and what their author should know.
///
/// ```
/// use http::Request;
/// use tower_mesh::source::kubernetes::Manifests;
///
/// let text = "apiVersion: v1
/// kind: Service
/// metadata: {name: payments, namespace: shop, annotations: {timeout.linkerd.io/request: 1h30m}}
/// spec: {ports: [{port: 8080}]}";
/// let explanation = Manifests::parse_named("payments.yaml", text)?
///     .explain("payments.shop:8080")
///     .request(&Request::get("/quote").body(()).unwrap());
/// assert!(explanation.has_errors());
/// println!("{}", explanation.to_text(|_file| Some(text.to_owned())));
/// # Ok::<(), tower_mesh::source::kubernetes::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    target: String,
    client: Option<String>,
    outcome: Outcome,
    request: Option<Asked>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Debug)]
enum Outcome {
    Policy(Box<ClientPolicy>),
    /// What the mesh makes of it, and why it does not resolve here.
    Lenient(Box<ClientPolicy>, Error),
    None(Error),
}

// === impl Manifests ===

impl Manifests {
    /// What these manifests come to for a target, as [`resolve`](Self::resolve) takes it; and everything there is to say
    /// about them, what is about no target in particular included.
    pub fn explain(&self, target: &str) -> Explanation {
        let said = self.said_of(target);
        let outcome = match self.resolve(target) {
            Ok(policy) => Outcome::Policy(Box::new(policy)),
            // About nobody there is nothing to say.
            Err(error) if said.is_some() => Outcome::None(error),
            Err(error) => {
                let mut mesh = self.clone();
                mesh.options.fidelity = Fidelity::Mesh;
                mesh.strict = false;
                match mesh.resolve(target) {
                    Ok(policy) => Outcome::Lenient(Box::new(policy), error),
                    Err(_) => Outcome::None(error),
                }
            }
        };
        let mut diagnostics = self.diagnostics.clone();
        if let (Outcome::Policy(_), Some(error)) = (&outcome, said) {
            diagnostics.push(Diagnostic {
                severity: Severity::Warning,
                ..error.diagnostic().clone()
            });
        }
        diagnostics.sort_by(Diagnostic::by_place);
        Explanation {
            target: target.to_owned(),
            client: self.options.client.clone(),
            outcome,
            request: None,
            diagnostics,
        }
    }
}

// === impl Explanation ===

impl Explanation {
    /// Of manifests that cannot be read at all.
    pub fn of_error(target: &str, error: &Error) -> Self {
        Self {
            target: target.to_owned(),
            client: None,
            outcome: Outcome::None(error.clone()),
            request: None,
            diagnostics: error.diagnostics().to_vec(),
        }
    }

    /// With the rule that this request meets. A request for a path is taken for one to the target.
    #[must_use]
    pub fn request<B>(mut self, request: &Request<B>) -> Self {
        let mut uri = request.uri().clone();
        if uri.authority().is_none()
            && !request.headers().contains_key(http::header::HOST)
            && let Some(authority) = authority(&self.target)
        {
            let mut parts = uri.clone().into_parts();
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority = authority.parse().ok();
            uri = http::Uri::from_parts(parts).unwrap_or(uri);
        }
        self.request = Some(Asked {
            method: request.method().clone(),
            uri,
            headers: request.headers().clone(),
        });
        self
    }

    /// The policy. None if there is none, or only with what is not valid left out.
    pub fn policy(&self) -> Option<&ClientPolicy> {
        match &self.outcome {
            Outcome::Policy(policy) => Some(policy),
            Outcome::Lenient(..) | Outcome::None(_) => None,
        }
    }

    /// Everything there is to say, by file and line.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether the target does not resolve, or something is not valid.
    pub fn has_errors(&self) -> bool {
        self.policy().is_none() || self.counts().0 > 0
    }

    /// Errors and warnings. An error that is about the target alone is no diagnostic of the manifests.
    fn counts(&self) -> (usize, usize) {
        let count = |severity| {
            let all = self.diagnostics.iter();
            all.filter(|diagnostic| diagnostic.severity == severity)
                .count()
        };
        let errors = count(Severity::Error);
        let alone = errors == 0 && self.policy().is_none();
        (errors + usize::from(alone), count(Severity::Warning))
    }
}

/// What requests for a target name.
fn authority(target: &str) -> Option<String> {
    if target.parse::<std::net::SocketAddr>().is_ok() {
        return Some(target.to_owned());
    }
    let target: Target = target.parse().ok()?;
    let (name, namespace) = (target.name(), target.namespace());
    Some(match target.port() {
        Some(port) => format!("{name}.{namespace}.svc.cluster.local:{port}"),
        None => format!("{name}.{namespace}.svc.cluster.local"),
    })
}
