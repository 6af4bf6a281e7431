use super::*;

#[track_caller]
fn refused(config: &VdafConfig, text: &str, because: &str) {
    match Measurement::parse(config, text) {
        Err(VdafError::Measurement(why)) => assert!(why.contains(because), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_reads_what_a_user_types() {
    let read = |config: &VdafConfig, text: &str| Measurement::parse(config, text).unwrap();
    for (text, value) in [("true", true), ("1", true), ("false", false), (" 0\n", false)] {
        assert_eq!(read(&VdafConfig::Count, text), Measurement::Bool(value));
    }
    assert_eq!(read(&VdafConfig::Sum { max_measurement: 42 }, "42"), Measurement::Integer(42));
    assert_eq!(read(&VdafConfig::sum_vec(3, 9), "1, 2,3"), Measurement::Vector(vec![1, 2, 3]));
    assert_eq!(read(&VdafConfig::histogram(4), "3"), Measurement::Bucket(3));
    let set = Measurement::Set(vec![false, true, true]);
    assert_eq!(read(&VdafConfig::multihot(3, 2), "0,1,1"), set);
    assert_eq!(read(&VdafConfig::multihot(3, 2), "false,true,true"), set);
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    refused(&VdafConfig::Count, "yes", "true, false, 1 or 0");
    refused(&VdafConfig::Sum { max_measurement: 42 }, "43", "above max_measurement, which is 42");
    refused(&VdafConfig::Sum { max_measurement: 42 }, "-1", "one number");
    refused(&VdafConfig::Sum { max_measurement: 42 }, "", "one number");
    refused(&VdafConfig::sum_vec(3, 9), "1,2", "2 values were given for a vector of 3");
    refused(&VdafConfig::sum_vec(3, 9), "1,2,10", "above max_measurement, which is 9");
    refused(&VdafConfig::sum_vec(3, 9), "1,,3", "item 2 is not a number");
    refused(&VdafConfig::histogram(4), "4", "there are 4 buckets, numbered from 0");
    refused(&VdafConfig::histogram(4), "red", "the number of one bucket");
    refused(&VdafConfig::multihot(3, 2), "1,1,1", "at most 2 buckets may be in");
    refused(&VdafConfig::multihot(3, 2), "0,1", "2 values were given for a vector of 3");
    refused(&VdafConfig::multihot(3, 2), "0,1,2", "item 3 is not 0 or 1");
}

#[test]
fn a_measurement_never_prints_itself() {
    assert_eq!(format!("{:?}", Measurement::Integer(42)), "Measurement(..)");
    let refusal = Measurement::parse(&VdafConfig::Sum { max_measurement: 42 }, "4711").unwrap_err();
    assert!(!refusal.to_string().contains("4711"));
}

#[test]
fn a_client_cannot_shard_what_is_not_a_measurement() {
    let nonce = ReportId::new([1; 16]);
    for config in every_kind() {
        for other in every_kind() {
            let result = vdaf(&config).shard(CONTEXT, &measurement(&other, 1), &nonce);
            assert_eq!(result.is_ok(), config.name() == other.name());
        }
    }
    for (config, bad) in [
        (VdafConfig::Sum { max_measurement: 5 }, Measurement::Integer(6)),
        (VdafConfig::sum_vec(2, 5), Measurement::Vector(vec![0, 6])),
        (VdafConfig::sum_vec(2, 5), Measurement::Vector(vec![0])),
        (VdafConfig::histogram(3), Measurement::Bucket(3)),
        (VdafConfig::multihot(3, 1), Measurement::Set(vec![true, true, false])),
    ] {
        let refused = vdaf(&config).shard(CONTEXT, &bad, &nonce).err();
        assert!(matches!(refused, Some(VdafError::Measurement(_))), "{}", config.name());
    }
}
