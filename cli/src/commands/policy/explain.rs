//! `mica policy explain`: the guarantee in words, and as the export that an auditor is handed.

use mica_dp::{Policy, ReleasePlan};
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit::Failure;
use crate::print;

/// Prints what every release promises.
pub(super) fn run(policy: &Policy, format: Format) -> Result<(), Failure> {
    let plans: Vec<ReleasePlan> = policy.plans().collect();
    if format == Format::Json {
        let releases: Vec<Value> = plans.iter().map(ReleasePlan::export).collect();
        return print::json(&json!({
            "policy": policy.id(),
            "version": policy.version(),
            "warnings": policy.warnings(),
            "releases": releases,
            "without_dp": policy.without_noise().map(|exception| exception.export()),
        }));
    }
    let mut texts: Vec<String> = plans.iter().map(ReleasePlan::explain).collect();
    if texts.is_empty() {
        texts.push(format!("Policy \"{}\" has no release with noise.", policy.id()));
    }
    texts.extend(policy.without_noise().map(|exception| exception.explain()));
    print::lines(&texts.join("\n\n"))
}
