use super::super::Manifests;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n";

/// What is said of these lines, each thing with its line and key.
fn told(text: &str) -> Vec<String> {
    let manifests = Manifests::parse_named("m.yaml", text).unwrap();
    let told = manifests.diagnostics().iter();
    told.map(ToString::to_string).collect()
}

fn route(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

fn of_parents(parents: &str) -> Vec<String> {
    told(&(SERVICE.to_owned() + &route("r", &format!("parentRefs: [{parents}]"))))
}

fn of_rules(rules: &[&str]) -> Vec<String> {
    let mut text = SERVICE.to_owned();
    for (name, rules) in ["a", "b"].into_iter().zip(rules) {
        let parent = "parentRefs: [{name: web, kind: Service, group: core, port: 80}]";
        text += &route(name, &format!("{parent}, rules: [{rules}]"));
    }
    told(&text)
}

#[test]
fn parents_that_were_meant_to_be_a_service() {
    for (parent, pieces) in [
        (
            "{name: web, kind: service, group: core}",
            ["\"service\" is no kind", "did you mean Service?"],
        ),
        (
            "{name: web, kind: Services, group: ''}",
            ["\"Services\" is no kind", "did you mean Service?"],
        ),
        (
            "{name: web, kind: EgressNetworks, group: policy.linkerd.io}",
            ["is no kind", "did you mean EgressNetwork?"],
        ),
        (
            "{name: web, kind: Deployment, group: apps}",
            ["not attached to a Deployment", "write kind: Service"],
        ),
        (
            "{name: web, kind: Endpoints, group: core}",
            ["\"Endpoints\" is no kind", "write kind: Service"],
        ),
        (
            "{name: web, group: core}",
            ["fills in Gateway", "write kind: Service"],
        ),
    ] {
        let told = of_parents(parent);
        let [one] = &told[..] else {
            panic!("{parent}: {told:?}");
        };
        let place = "m.yaml:9:21: warning: HTTPRoute shop/r: spec.parentRefs[0]: ";
        assert!(one.starts_with(place), "{one}");
        for piece in pieces {
            assert!(one.contains(piece), "no {piece:?} in {one}");
        }
    }
    // Other people's, and the inbound policy's.
    for parent in [
        "{name: g}",
        "{name: g, kind: Gateway}",
        "{name: s, kind: Server, group: policy.linkerd.io}",
        "{name: shop, kind: Namespace, group: core}",
        "{name: x, kind: Mesh, group: example.com}",
    ] {
        assert_eq!(of_parents(parent), [""; 0], "{parent}");
    }
}

#[test]
fn annotations_that_are_none_for_their_indent() {
    let key = "timeout.linkerd.io/request";
    for (text, place) in [
        (
            "metadata: {name: web}\nannotations: {KEY: 1s}",
            "outside of metadata",
        ),
        ("metadata: {name: web}\nKEY: 1s", "outside of metadata"),
        ("metadata: {name: web, KEY: 1s}", "in metadata;"),
        (
            "metadata: {name: web, labels: {KEY: 1s}}",
            "in metadata.labels;",
        ),
        ("metadata: {name: web}\nspec: {KEY: 1s}", "in spec;"),
        (
            "metadata: {name: web}\nspec: {annotations: {KEY: 1s}}",
            "in spec.annotations;",
        ),
        (
            "metadata: {name: web}\nspec: {template: {metadata: {annotations: {KEY: 1s}}}}",
            "in spec.template.metadata.annotations;",
        ),
    ] {
        for kind in ["v1\nkind: Service", "apps/v1\nkind: Deployment"] {
            let text = format!("apiVersion: {kind}\n{}\n", text.replace("KEY", key));
            let told = told(&text);
            let [one] = &told[..] else {
                panic!("{text}: {told:?}");
            };
            assert!(
                one.contains(&format!("/web: {key}: is no annotation here, {place}"))
                    || one.contains(&format!(" web: {key}: is no annotation here, {place}")),
                "{one}"
            );
            assert!(one.contains("write it in metadata.annotations of the Service"));
        }
    }
}

#[test]
fn prefixes_that_are_almost_the_meshs() {
    for (key, meant) in [
        ("Retry.linkerd.io/http", "retry.linkerd.io/http"),
        ("timeouts.linkerd.io/request", "timeout.linkerd.io/request"),
        (
            "balancers.linkerd.io/failure-accrual",
            "balancer.linkerd.io/failure-accrual",
        ),
    ] {
        let told = told(&super::service(&format!("{key}: x")));
        let [one] = &told[..] else {
            panic!("{key}: {told:?}");
        };
        assert!(
            one.ends_with(&format!("did you mean {meant}?")) && one.starts_with("m.yaml:7:5: "),
            "{one}"
        );
    }
    for key in [
        "viz.linkerd.io/tap",
        "linkerd.io/inject",
        "config.alpha.linkerd.io/x",
        "a/b",
    ] {
        assert_eq!(
            told(&super::service(&format!("{key}: x"))),
            [""; 0],
            "{key}"
        );
    }
}

#[test]
fn rules_that_are_never_met() {
    let quote = "{matches: [{path: {value: /quote}}]}";
    let both = "{matches: [{path: {value: /quote}}, {path: {value: /order}}]}";
    let get = "{matches: [{path: {value: /quote}, method: GET}]}";
    for (rules, pieces) in [
        (
            vec![quote, quote],
            &[
                "14:81: warning: HTTPRoute shop/b: spec.rules[0]: never met: spec.rules[0] of HTTPRoute shop/a",
            ][..],
        ),
        (vec![both, quote], &["HTTPRoute shop/b"]),
        (vec![quote, both], &[]),
        (vec![quote, get], &[]),
        (vec!["{}", "{}"], &["HTTPRoute shop/b"]),
        (
            vec!["{}, {}"],
            &["spec.rules[1]: never met: spec.rules[0] matches the same, and comes first"],
        ),
        (vec![quote, "{}"], &[]),
    ] {
        let told = of_rules(&rules);
        assert_eq!(told.len(), pieces.len(), "{rules:?}: {told:?}");
        for (one, piece) in told.iter().zip(pieces) {
            assert!(one.contains(piece), "no {piece:?} in {one}");
        }
    }
    // Attached to two ports, or twice to one.
    let parent = "{name: web, kind: Service, group: core";
    let twice = format!("parentRefs: [{parent}, port: 80}}, {parent}}}], rules: [{quote}]");
    assert_eq!(told(&(SERVICE.to_owned() + &route("r", &twice))), [""; 0]);
}

#[test]
fn kinds_that_are_almost_read() {
    for (version, kind, key, meant) in [
        ("v1", "service", "kind", "v1 Service"),
        ("v1", "Services", "kind", "v1 Service"),
        ("apps/v1", "Service", "apiVersion", "v1 Service"),
        ("v2", "Service", "apiVersion", "v1 Service"),
        (
            "gateway.networking.k8s.io/v1",
            "HttpRoute",
            "kind",
            "gateway.networking.k8s.io/v1 HTTPRoute",
        ),
        (
            "gateway.networking.k8s.op/v1",
            "GRPCRoute",
            "apiVersion",
            "gateway.networking.k8s.io/v1 GRPCRoute",
        ),
        (
            "policy.linkerd.io/v1beta3",
            "HttpRoute",
            "kind",
            "policy.linkerd.io/v1beta3 HTTPRoute",
        ),
        (
            "linkerd.io/v1alpha2",
            "ServiceProfiles",
            "kind",
            "linkerd.io/v1alpha2 ServiceProfile",
        ),
    ] {
        let line = if key == "kind" { "2:7" } else { "1:13" };
        let told = told(&format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n"
        ));
        let expected = format!(
            "m.yaml:{line}: warning: {kind} x: {key}: {version} {kind} is none of the kinds that are read; it is left out; \
             did you mean {meant}?"
        );
        assert_eq!(told, [expected]);
    }
    // Other people's.
    for (version, kind) in [
        ("serving.knative.dev/v1", "Service"),
        ("policy.linkerd.io/v1alpha1", "HTTPRoute"),
        ("policy.linkerd.io/v1beta3", "Server"),
        ("gateway.networking.k8s.io/v1alpha2", "UDPRoute"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("v1", "ServiceAccount"),
        ("networking.istio.io/v1", "ServiceEntry"),
    ] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n");
        assert_eq!(told(&text), [""; 0], "{version} {kind}");
    }
}

#[test]
fn a_port_twice() {
    let of = |ports| told(&SERVICE.replace("{port: 80}", ports));
    assert_eq!(
        of("{port: 80}, {port: 80}"),
        [
            "m.yaml:4:35: error: Service shop/web: spec.ports[1].port: port 80 is already spec.ports[0]; the mesh never sees \
             it: the API server refuses it; keep one of them"
        ]
    );
    assert_eq!(
        of("{name: a, port: 80}, {name: b, port: 80, protocol: UDP}"),
        [""; 0]
    );
}
