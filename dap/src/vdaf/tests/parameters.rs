use super::*;

#[track_caller]
fn refused(config: &VdafConfig, because: &str) {
    match config.instantiate() {
        Err(VdafError::Configuration(why)) => assert!(why.contains(because), "{why}"),
        Err(other) => panic!("refused otherwise: {other}"),
        Ok(_) => panic!("accepted {config:?}"),
    }
}

#[test]
fn meaningless_parameters_are_refused() {
    refused(&VdafConfig::Sum { max_measurement: 0 }, "max_measurement is 0");
    refused(&VdafConfig::Sum { max_measurement: u64::MAX }, "modulus");
    refused(&VdafConfig::SumVec { length: 0, max_measurement: 1, chunk_length: 1 }, "length is 0");
    refused(&VdafConfig::SumVec { length: 3, max_measurement: 0, chunk_length: 1 }, "max_measurement is 0");
    refused(&VdafConfig::SumVec { length: 3, max_measurement: 3, chunk_length: 0 }, "chunk_length is 0");
    refused(
        &VdafConfig::SumVec { length: 3, max_measurement: 3, chunk_length: 7 },
        "above the 6 field elements",
    );
    refused(&VdafConfig::Histogram { length: 0, chunk_length: 1 }, "length is 0");
    refused(&VdafConfig::Histogram { length: 4, chunk_length: 0 }, "chunk_length is 0");
    refused(&VdafConfig::Histogram { length: 4, chunk_length: 5 }, "above the 4 field elements");
    refused(&VdafConfig::MultihotCountVec { length: 0, chunk_length: 1, max_weight: 1 }, "max_weight");
    refused(&VdafConfig::MultihotCountVec { length: 4, chunk_length: 1, max_weight: 0 }, "max_weight is 0");
    refused(&VdafConfig::MultihotCountVec { length: 4, chunk_length: 1, max_weight: 5 }, "above the length");
    refused(&VdafConfig::MultihotCountVec { length: 4, chunk_length: 0, max_weight: 2 }, "chunk_length is 0");
    refused(
        &VdafConfig::MultihotCountVec { length: 4, chunk_length: 1, max_weight: u64::MAX },
        "above the length",
    );
}

#[test]
fn the_largest_sum_is_one_below_the_modulus() {
    let modulus = 18_446_744_069_414_584_321;
    refused(&VdafConfig::Sum { max_measurement: modulus }, "modulus");
    assert!(VdafConfig::Sum { max_measurement: modulus - 1 }.instantiate().is_ok());
}

#[test]
fn a_chunk_length_that_makes_verification_quadratic_is_refused() {
    refused(&VdafConfig::Histogram { length: 10_000, chunk_length: 2 }, "use 79");
    refused(&VdafConfig::Histogram { length: 10_000, chunk_length: 78 }, "use 79");
    for chunk_length in [79, 100, 323, 10_000] {
        assert!(VdafConfig::Histogram { length: 10_000, chunk_length }.instantiate().is_ok());
    }
    // Short vectors may be cut as finely as one likes.
    assert!(VdafConfig::Histogram { length: 127, chunk_length: 1 }.instantiate().is_ok());
    refused(&VdafConfig::Histogram { length: 128, chunk_length: 1 }, "quadratic");
    refused(&VdafConfig::SumVec { length: 1000, max_measurement: 255, chunk_length: 3 }, "quadratic");
    refused(&VdafConfig::MultihotCountVec { length: 5000, chunk_length: 1, max_weight: 3 }, "quadratic");
}

#[test]
fn what_our_own_constructors_choose_is_always_served() {
    for length in (1..300).chain([1000, 9_999, 99_000]) {
        assert!(VdafConfig::histogram(length).instantiate().is_ok(), "{length}");
        assert!(VdafConfig::multihot(length, 1).instantiate().is_ok(), "{length}");
        assert!(VdafConfig::sum_vec(length, 1).instantiate().is_ok(), "{length}");
    }
}

#[test]
fn the_recommended_chunk_length_never_costs_more_than_documented() {
    for length in [100, 1_000, 10_000, 50_000, 65_281, 65_282, MAX_ENCODED_LENGTH] {
        let calls = length.div_ceil(prio::vdaf::prio3::optimal_chunk_length(length));
        assert!(calls <= 255, "{length}: {calls}");
    }
}

#[test]
fn a_measurement_of_unbounded_size_is_refused() {
    refused(&VdafConfig::histogram(100_001), "at most 100000 are served");
    refused(&VdafConfig::sum_vec(u32::MAX, u64::MAX), "at most 100000 are served");
    refused(&VdafConfig::sum_vec(1_563, u64::MAX), "at most 100000 are served");
    refused(&VdafConfig::multihot(u32::MAX, 3), "at most 100000 are served");
    assert!(VdafConfig::histogram(100_000).instantiate().is_ok());
}

#[test]
fn arguments_reach_the_library_in_its_order() {
    // Wrongly ordered, each of these would be another VDAF or none.
    let sum_vec = VdafConfig::SumVec { length: 2, max_measurement: 1000, chunk_length: 5 };
    let [leader, helper] = aggregated(&sum_vec, 0..2);
    assert_eq!(vdaf(&sum_vec).unshard_signed(&[], &leader, &helper, 2).unwrap(), [1, 3]);
    let multihot = VdafConfig::MultihotCountVec { length: 6, chunk_length: 3, max_weight: 2 };
    let three = Measurement::Set(vec![true, true, true, false, false, false]);
    let nonce = ReportId::new([1; 16]);
    assert!(matches!(vdaf(&multihot).shard(CONTEXT, &three, &nonce).err(), Some(VdafError::Measurement(_))));
    assert_eq!(aggregated(&multihot, 0..1)[0].len(), 6 * 16);
}

#[test]
fn only_the_empty_aggregation_parameter_is_taken() {
    for config in every_kind() {
        let report = Report::new(&config, 0);
        let vdaf = &report.vdaf;
        assert_eq!(vdaf.check_aggregation_parameter(&[]), Ok(()));
        assert_eq!(vdaf.check_aggregation_parameter(&[0]), Err(VdafError::AggregationParameter));
        let refused = Some(VdafError::AggregationParameter);
        let begun = report.leader().ok().unwrap();
        let key = &report.verify_key;
        assert_eq!(vdaf.leader_init(key, CONTEXT, &[0], &report.share(0)).err(), refused);
        assert_eq!(vdaf.helper_init(key, CONTEXT, &[0], &report.share(1), &begun.message).err(), refused);
        assert_eq!(vdaf.leader_continued(CONTEXT, &[0], begun.state, &[2, 0, 0, 0, 0]).err(), refused);
    }
}
