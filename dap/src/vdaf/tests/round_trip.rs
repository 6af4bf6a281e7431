use super::*;

#[test]
fn the_collector_gets_the_plain_sum() {
    for config in every_kind() {
        let [leader, helper] = aggregated(&config, 0..9);
        let result = vdaf(&config).unshard_signed(&[], &leader, &helper, 9).unwrap();
        assert_eq!(result, expected(&config, 0..9), "{}", config.name());
    }
}

#[test]
fn a_wide_sum_and_a_recommended_histogram_add_up() {
    for config in [
        VdafConfig::Sum { max_measurement: 1 << 40 },
        VdafConfig::sum_vec(5, u64::MAX - 1),
        VdafConfig::histogram(100),
        VdafConfig::multihot(33, 5),
    ] {
        let [leader, helper] = aggregated(&config, 0..3);
        let result = vdaf(&config).unshard_signed(&[], &leader, &helper, 3).unwrap();
        assert_eq!(result, expected(&config, 0..3), "{}", config.name());
    }
}

#[test]
fn no_reports_add_up_to_nothing() {
    for config in every_kind() {
        let vdaf = vdaf(&config);
        let empty = vdaf.aggregate(&[], None, &[]).unwrap();
        assert_eq!(vdaf.unshard_signed(&[], &empty, &empty, 0).unwrap(), vec![0; config.length()]);
    }
}

#[test]
fn adding_in_parts_equals_adding_at_once() {
    for config in every_kind() {
        let vdaf = vdaf(&config);
        let verified: Vec<_> = (0..5).map(|seed| Report::new(&config, seed).verify().ok().unwrap()).collect();
        let [one, two, three, four, five] = [0, 1, 2, 3, 4].map(|index: usize| &verified[index][0]);
        let at_once = vdaf.aggregate(&[], None, &[one, two, three, four, five]).unwrap();
        let first = vdaf.aggregate(&[], None, &[one, two]).unwrap();
        let second = vdaf.aggregate(&[], None, &[three, four]).unwrap();
        let merged = vdaf.merge(&[], &first, &second).unwrap();
        assert_eq!(vdaf.aggregate(&[], Some(&merged), &[five]).unwrap(), at_once, "{}", config.name());
        assert_eq!(vdaf.merge(&[], &second, &first).unwrap(), merged);
    }
}

#[test]
fn a_retried_first_step_yields_the_same_bytes() {
    for config in every_kind() {
        let report = Report::new(&config, 3);
        let (first, again) = (report.leader().ok().unwrap(), report.leader().ok().unwrap());
        assert_eq!(first.message, again.message);
        let (helper, answer) = report.helper(&first.message).ok().unwrap();
        let (helper_again, answer_again) = report.helper(&again.message).ok().unwrap();
        assert_eq!(answer, answer_again);
        let sums = [helper, helper_again].map(|share| report.vdaf.aggregate(&[], None, &[&share]).unwrap());
        assert_eq!(sums[0], sums[1]);
        // The state of the second attempt finishes what the first began.
        assert!(report.finish(again.state, &answer).is_ok());
    }
}

#[test]
fn either_side_can_be_told_that_the_other_has_finished() {
    for config in every_kind() {
        let report = Report::new(&config, 1);
        let begun = report.leader().ok().unwrap();
        let (_, answer) = report.helper(&begun.message).ok().unwrap();
        let step = report.vdaf.helper_continued(CONTEXT, &[], begun.state, &answer).ok().unwrap();
        assert!(matches!(step, Step::Finished(_)));
    }
}

#[test]
fn shares_have_the_sizes_that_peers_expect() {
    let count = Report::new(&VdafConfig::Count, 0);
    assert_eq!(count.shards.public_share.len(), 0);
    assert_eq!(count.shards.input_shares.each_ref().map(Vec::len), [48, 32]);
    let histogram = Report::new(&VdafConfig::Histogram { length: 4, chunk_length: 2 }, 0);
    assert_eq!(histogram.shards.public_share.len(), 64);
    assert_eq!(histogram.shards.input_shares.each_ref().map(Vec::len), [272, 64]);
    let begun = histogram.leader().ok().unwrap();
    assert_eq!(begun.message.len(), 133);
    assert_eq!(histogram.helper(&begun.message).ok().unwrap().1.len(), 37);
    assert_eq!(aggregated(&VdafConfig::histogram(10), 0..1)[0].len(), 160);
    assert_eq!(aggregated(&VdafConfig::Count, 0..1)[0].len(), 8);
}

#[test]
fn every_share_has_the_length_that_the_vdaf_tells_beforehand() {
    for config in every_kind() {
        let lengths = vdaf(&config).share_lengths().unwrap();
        for seed in 0..4 {
            let shards = Report::new(&config, seed).shards;
            assert_eq!(shards.public_share.len(), lengths.public_share, "{}", config.name());
            assert_eq!(shards.input_shares.each_ref().map(Vec::len), lengths.input_shares);
        }
    }
}

#[test]
fn the_context_names_edition_and_task() {
    let context = vdaf_context(Draft::V18, &TaskId::new([9; 32]));
    assert_eq!(context, [&b"dap-18"[..], &[9; 32]].concat());
    assert!(vdaf_context(Draft::V19, &TaskId::new([9; 32])).starts_with(b"dap-19"));
}

#[test]
fn the_trait_tells_field_and_length() {
    for config in every_kind() {
        let vdaf = vdaf(&config);
        assert_eq!(vdaf.result_length(&[]).unwrap(), config.length());
        let bits = match config {
            VdafConfig::Count | VdafConfig::Sum { .. } => 64,
            _ => 128,
        };
        assert_eq!(vdaf.field_modulus().bits(), bits);
    }
    assert_eq!(vdaf(&VdafConfig::Count).field_modulus(), BigUint::from(18_446_744_069_414_584_321_u64));
    assert_eq!(vdaf(&VdafConfig::Sum { max_measurement: 9 }).max_coordinate(), 9);
    assert_eq!(vdaf(&VdafConfig::histogram(9)).max_coordinate(), 1);
}
