use proptest::prelude::*;

use super::super::{Manifests, Target, grammar};
use super::{PAYMENTS, service};

/// Everything that can be asked, whatever comes out.
fn drive(text: &str) {
    let manifests = match Manifests::parse_named("m.yaml", text) {
        Ok(manifests) => manifests,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error}");
            for diagnostic in error.diagnostics() {
                assert!(!diagnostic.to_string().contains(char::is_control));
            }
            return;
        }
    };
    for diagnostic in manifests.diagnostics() {
        assert!(!diagnostic.to_string().contains(char::is_control));
    }
    for target in manifests.targets() {
        if let Err(error) = manifests.resolve_target(&target) {
            assert!(!error.to_string().is_empty());
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC*") {
        drive(&text);
    }

    #[test]
    fn arbitrary_yaml_does_not_panic(text in "[a-z0-9:,&*<>|!%@'\"{}\\[\\]#~ .\n\t?-]{0,200}") {
        drive(&text);
    }

    #[test]
    fn mutated_manifests_do_not_panic(at in 0..PAYMENTS.len(), cut in 0..40_usize, put in "[\\PC\n]{0,6}") {
        let mut bytes = PAYMENTS.as_bytes().to_vec();
        bytes.splice(at..(at + cut).min(PAYMENTS.len()), put.bytes());
        drive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_annotations_do_not_panic(
        key in prop::sample::select(vec![
            "balancer.linkerd.io/failure-accrual-consecutive-max-failures",
            "balancer.linkerd.io/failure-accrual-consecutive-min-penalty",
            "balancer.linkerd.io/failure-accrual-consecutive-max-penalty",
            "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio",
            "balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold",
            "balancer.alpha.linkerd.io/failure-accrual-success-rate-window",
            "balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests",
            "balancer.alpha.linkerd.io/penalize-failures",
            "retry.linkerd.io/http",
            "retry.linkerd.io/grpc",
            "retry.linkerd.io/limit",
            "retry.linkerd.io/timeout",
            "timeout.linkerd.io/idle",
            "config.linkerd.io/opaque-ports",
        ]),
        value in prop_oneof!["\\PC{0,30}", "[0-9.+-]{0,24}(ms|s|m|h|d|us|)[0-9]{0,3}[smhd]?", "[0-9,x-]{0,20}"],
    ) {
        drive(&service(&format!("balancer.linkerd.io/failure-accrual: unified\n{key}: {value:?}")));
    }

    #[test]
    fn a_suggested_duration_is_one(text in "[0-9]{1,6}(\\.[0-9]{1,4})?(ms|s|m|h|d)([0-9]{1,6}(ms|s|m|h))?") {
        if let Err(mistake) = grammar::duration(&text)
            && let Some(better) = mistake.remedy.as_deref().and_then(|r| r.split('"').nth(1))
        {
            prop_assert!(grammar::duration(better).is_ok(), "{text} -> {better}");
        }
    }

    #[test]
    fn a_target_survives_its_text(text in "[a-z0-9.:-]{0,40}") {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse::<Target>().ok(), Some(target));
        }
    }
}
