use super::*;
use crate::time::{Duration, Time};

fn parameters() -> TaskParameters {
    TaskParameters {
        task_info: b"test".to_vec(),
        leader_url: "https://leader.example.com/".to_owned(),
        helper_url: "https://helper.example.com/".to_owned(),
        time_precision: TimePrecision::new(60).unwrap(),
        min_batch_size: 10,
        batch_mode: BatchMode::TimeInterval,
        vdaf: VdafConfig::Count,
        task_interval: Some(Interval::new(Time(60), Duration(100)).unwrap()),
    }
}

fn malformed(parameters: &TaskParameters, draft: Draft) -> bool {
    matches!(parameters.build(draft), Err(TaskConfigurationError::Malformed(_)))
}

#[test]
fn a_task_reads_what_it_writes_and_derives_its_identifier() {
    let task = parameters().build(Draft::V18).unwrap();
    assert_eq!(task.parameters(), &parameters());
    assert_eq!(task.encoded(), task.bytes());
    assert_eq!(task.derived_task_id().to_string(), "NYSKiYrbFGtVk4UkfH5J2xy9KK9S48Ec-wHU_EtJBHk");
}

#[test]
fn an_empty_task_info_is_legal_from_the_later_draft_on() {
    let empty = TaskParameters { task_info: Vec::new(), ..parameters() };
    assert!(malformed(&empty, Draft::V18));
    assert!(empty.build(Draft::V19).is_ok());
    assert!(malformed(&TaskParameters { task_info: vec![0; 256], ..parameters() }, Draft::V18));
}

#[test]
fn values_without_meaning_are_refused() {
    assert!(malformed(&TaskParameters { min_batch_size: 0, ..parameters() }, Draft::V18));
    assert!(malformed(&TaskParameters { leader_url: String::new(), ..parameters() }, Draft::V18));
    assert!(malformed(&TaskParameters { leader_url: "https://ä/".to_owned(), ..parameters() }, Draft::V18));
    assert!(malformed(&TaskParameters { helper_url: "a b".to_owned(), ..parameters() }, Draft::V18));
    assert!(malformed(&TaskParameters { helper_url: "x".repeat(65_536), ..parameters() }, Draft::V18));
}

/// Everything of a configuration up to its extension list.
fn without_extensions() -> Vec<u8> {
    let task = TaskParameters { task_interval: None, ..parameters() }.build(Draft::V18).unwrap();
    let bytes = task.bytes();
    bytes[..bytes.len() - 2].to_vec()
}

fn with_extensions(extensions: &[Extension]) -> Result<TaskConfiguration, TaskConfigurationError> {
    let mut bytes = without_extensions();
    put_list16(&mut bytes, extensions);
    TaskConfiguration::parse(&bytes, Draft::V18)
}

fn interval_extension() -> Extension {
    Extension { extension_type: 1, data: Interval::new(Time(1), Duration(1)).unwrap().encoded() }
}

#[test]
fn an_unknown_task_extension_forbids_taking_part() {
    let unknown = |extension_type| Extension { extension_type, data: vec![1] };
    assert_eq!(with_extensions(&[unknown(0)]), Err(TaskConfigurationError::UnknownExtension(0)));
    assert_eq!(
        with_extensions(&[interval_extension(), unknown(2)]),
        Err(TaskConfigurationError::UnknownExtension(2))
    );
}

#[test]
fn task_extensions_grow_strictly_and_an_interval_fills_its_extension() {
    assert!(with_extensions(&[interval_extension()]).is_ok());
    assert!(with_extensions(&[interval_extension(), interval_extension()]).is_err());
    let mut long = interval_extension();
    long.data.push(0);
    assert!(with_extensions(&[long]).is_err());
    assert!(with_extensions(&[Extension { extension_type: 1, data: vec![0; 16] }]).is_err());
}

#[test]
fn unknown_batch_modes_and_vdafs_are_named() {
    // Counted from the end: two bytes of extensions, two of VDAF parameters, four of VDAF type, two of batch
    // parameters, one of batch mode.
    let bytes = with_extensions(&[]).unwrap().bytes().to_vec();
    let mut mode = bytes.clone();
    mode[bytes.len() - 11] = 3;
    assert_eq!(TaskConfiguration::parse(&mode, Draft::V18), Err(TaskConfigurationError::UnknownBatchMode(3)));
    let mut vdaf = bytes.clone();
    vdaf[bytes.len() - 5] = 7;
    assert_eq!(TaskConfiguration::parse(&vdaf, Draft::V18), Err(TaskConfigurationError::UnknownVdaf(7)));
}
