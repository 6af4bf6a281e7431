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

/// Relay and gateway alone, with little of everything.
#[test]
fn relay_and_gateway_are_measured_before_a_target_that_does_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_mica-bench"))
        .args(["ohttp", "--mica"])
        .arg(mica_tests::mica())
        .args(["--requests", "200", "--connections", "4", "--idle", "20", "--attempts", "100", "--json"])
        .output()
        .expect("the ruler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    for (row, http) in ["HTTP/1.1", "HTTP/2"].into_iter().enumerate() {
        for part in ["cpu", "latency", "idle"] {
            assert_eq!(figures[part][row]["http"], http, "{part}");
        }
        assert!(number(&figures, &format!("/cpu/{row}/gateway")) > 0.0);
        assert!(number(&figures, &format!("/idle/{row}/after")) > 0.0);
    }
    let alone = number(&figures, "/merging/0/target_requests");
    assert!((alone - 1.0).abs() < 1e-9, "each upload is one request: {alone}");
    assert!(number(&figures, "/merging/1/target_requests") <= 1.0);
    assert!(number(&figures, "/crowd/kept/served") > 0.0);
    assert_eq!(figures["aims"].as_array().map(Vec::len), Some(6));
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
