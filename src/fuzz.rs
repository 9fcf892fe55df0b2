//! What must hold whatever comes from outside. For the fuzzers in `fuzz/`, and for a test over their corpus.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Manifests: read or refused, resolved or refused, in words that stay on their line.
#[cfg(feature = "kubernetes")]
pub fn manifests(data: &[u8]) {
    use crate::policy::Fidelity;
    use crate::source::kubernetes::{Explanation, Manifests, Severity};
    let text = String::from_utf8_lossy(data);
    let manifests = match Manifests::parse_named("m.yaml", &text) {
        Ok(manifests) => manifests,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error}");
            // It is one of those that are told, and each of them stays on its line.
            let all = error.diagnostics();
            assert!(all.contains(error.diagnostic()), "{error}");
            for diagnostic in all {
                let line = diagnostic.to_string();
                assert!(!line.contains(char::is_control), "{line}");
            }
            let explanation = Explanation::of_error("payments.shop:8080", &error);
            let errors = explanation.diagnostics().iter();
            assert!(errors.filter(|one| one.severity == Severity::Error).count() > 0);
            let words = explanation.to_text(|_| Some(text.clone().into_owned()));
            assert!(
                !words.contains(|c: char| c.is_control() && c != '\n'),
                "{words:?}"
            );
            return;
        }
    };
    for diagnostic in manifests.diagnostics() {
        let line = diagnostic.to_string();
        assert!(!line.contains(char::is_control), "{line}");
    }
    // The first few: a document may have a thousand ports.
    let mut targets: Vec<String> = manifests
        .targets()
        .take(4)
        .map(|target| target.to_string())
        .collect();
    targets.extend(["203.0.113.7:443".to_owned(), "10.0.0.7:80".to_owned()]);
    for fidelity in [Fidelity::Mesh, Fidelity::Extended] {
        for client in ["shop", "b"] {
            let manifests = manifests.clone().fidelity(fidelity);
            let manifests = manifests.client_namespace(client);
            for target in &targets {
                if let Ok(policy) = manifests.resolve(target) {
                    assert_eq!(policy.fidelity, fidelity);
                    // A policy is a value: what is resolved twice is the same.
                    assert_eq!(manifests.resolve(target).ok(), Some(policy));
                }
                let request = http::Request::get("/a/b?c=d").body(());
                let mut explanation = manifests.explain(target);
                if let Ok(request) = request {
                    explanation = explanation.request(&request);
                }
                let words = explanation.to_text(|_| Some(text.clone().into_owned()));
                let moves = |c: char| c.is_control() && c != '\n';
                assert!(!words.contains(moves), "{words:?}");
                let json = explanation.to_json();
                assert!(!json.contains(char::is_control), "{json:?}");
            }
        }
    }
}

/// A message of the control plane: read or refused; and what was read can be written, and comes back.
#[cfg(feature = "linkerd")]
pub fn messages(data: &[u8]) {
    use crate::source::linkerd::{Effect, Read, read, write};
    let read_ = match Read::from_bytes(data) {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error}");
            return;
        }
    };
    for problem in &read_.problems {
        let line = problem.to_string();
        assert!(!line.contains(char::is_control), "{line}");
    }
    let written = write(&read_.policy);
    let again = read(written.message.clone());
    assert_eq!(again.policy, read_.policy);
    // What was not valid is gone; what was kept as it is still is.
    for problem in again.problems.iter().chain(&written.problems) {
        assert!(problem.effect == Effect::Kept, "{problem}");
    }
    assert_eq!(write(&again.policy), written);
    let valid = read_.problems.iter().all(|it| it.effect == Effect::Ignored);
    assert_eq!(read_.strict().is_ok(), valid);
}

/// One header in a line, `name: value`: read leniently, and taken away.
pub fn overrides(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let value = value.trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    crate::client::fuzz_overrides(headers);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    // In a published package there is no corpus.
    fn over(corpus: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(corpus);
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        let mut count = 0;
        for entry in entries {
            check(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 10, "{corpus} has {count} files");
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn the_corpus_of_manifests() {
        over("manifests", super::manifests);
    }

    #[cfg(feature = "linkerd")]
    #[test]
    fn the_corpus_of_messages() {
        over("messages", super::messages);
    }

    #[test]
    fn the_corpus_of_overrides() {
        over("overrides", super::overrides);
    }
}
