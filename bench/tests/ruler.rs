//! The ruler itself, on few reports: it runs, and it gives figures only after the total was right.

use std::process::Command;

use serde_json::Value;

fn measure(flags: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_mica-bench"))
        .arg("--mica")
        .arg(mica_tests::mica())
        .args(["--reports", "200", "--connections", "4", "--json"])
        .args(flags)
        .output()
        .expect("the ruler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// A number somewhere in the figures.
fn number(figures: &Value, at: &str) -> f64 {
    figures.pointer(at).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {at} in {figures}"))
}

#[test]
fn a_report_costs_something_at_every_role_it_passes() {
    let figures = measure(&["--path", "full", "--vdaf", "count"]);
    for role in ["relay", "gateway", "leader", "helper"] {
        let cpu = number(&figures, &format!("/cpu/roles/{role}"));
        assert!(cpu > 0.0, "{role}: {cpu}");
    }
    assert!(number(&figures, "/cpu/ratio") > 0.0);
    assert_eq!(figures["work"]["total_is_right"], Value::Bool(true));
}
