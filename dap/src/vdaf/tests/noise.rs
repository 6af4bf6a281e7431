use super::*;

fn big(values: &[i64]) -> Vec<BigInt> {
    values.iter().copied().map(BigInt::from).collect()
}

#[test]
fn noise_makes_results_negative_and_they_decode_so() {
    for config in every_kind() {
        let vdaf = vdaf(&config);
        let [leader, helper] = aggregated(&config, 0..4);
        let noise: Vec<i64> =
            (0..i64::try_from(config.length()).unwrap()).map(|index| -1000 + index).collect();
        let leader = vdaf.add_noise(&leader, &big(&noise)).unwrap();
        let helper = vdaf.add_noise(&helper, &big(&vec![300; config.length()])).unwrap();
        let sums = expected(&config, 0..4);
        let noised: Vec<i128> =
            sums.iter().zip(&noise).map(|(sum, noise)| sum + i128::from(*noise) + 300).collect();
        assert!(noised.iter().all(|value| *value < 0));
        assert_eq!(vdaf.unshard_signed(&[], &leader, &helper, 4).unwrap(), noised, "{}", config.name());
    }
}

#[test]
fn noise_of_any_size_is_reduced_into_the_field() {
    for config in every_kind() {
        let vdaf = vdaf(&config);
        let [leader, helper] = aggregated(&config, 0..2);
        let modulus = BigInt::from(vdaf.field_modulus());
        for turns in [-3, -1, 0, 1, 5_i64] {
            let noise = vec![&modulus * turns - 2; config.length()];
            let noised = vdaf.add_noise(&leader, &noise).unwrap();
            let result = vdaf.unshard_signed(&[], &noised, &helper, 2).unwrap();
            let sums: Vec<i128> = expected(&config, 0..2).iter().map(|sum| sum - 2).collect();
            assert_eq!(result, sums);
        }
    }
}

#[test]
fn there_is_one_noise_value_for_each_coordinate() {
    for config in every_kind() {
        let vdaf = vdaf(&config);
        let [share, _] = aggregated(&config, 0..1);
        let expected = config.length();
        for given in [0, expected - 1, expected + 1].into_iter().filter(|given| *given != expected) {
            let refused = Err(VdafError::NoiseLength { expected, given });
            assert_eq!(vdaf.add_noise(&share, &vec![BigInt::from(1); given]), refused);
        }
    }
}

#[test]
fn the_field_is_cut_opposite_the_middle_of_the_possible_sums() {
    let vdaf = vdaf(&VdafConfig::Sum { max_measurement: 1 << 62 });
    let zero = vdaf.aggregate(&[], None, &[]).unwrap();
    let half: BigInt = (BigInt::from(vdaf.field_modulus()) - 1) / 2;
    let read = |value: BigInt, count: u64| {
        let share = vdaf.add_noise(&zero, &[value]).unwrap();
        vdaf.unshard_signed(&[], &share, &zero, count).unwrap()[0]
    };
    let half_signed = i128::from(u64::MAX / 2 - (1 << 31) + 1);
    // Without reports the cut is in the middle of the field.
    assert_eq!(read(half.clone(), 0), half_signed);
    assert_eq!(read(half.clone() + 1, 0), -half_signed);
    // Three reports can honestly add up to more than half the field.
    assert_eq!(read(BigInt::from(3_u64 << 62), 3), 3_i128 << 62);
    assert_eq!(read(BigInt::from(-5), 3), -5);
}

#[test]
fn an_aggregate_share_that_is_not_one_is_refused() {
    for config in every_kind() {
        let vdaf = vdaf(&config);
        let [good, _] = aggregated(&config, 0..1);
        let short = good[1..].to_vec();
        let long = [&good[..], &[0]].concat();
        let beyond_the_modulus = vec![0xff; good.len()];
        for bad in [Vec::new(), short, long, beyond_the_modulus] {
            assert_eq!(vdaf.merge(&[], &good, &bad), Err(VdafError::AggregateShare));
            assert_eq!(vdaf.merge(&[], &bad, &good), Err(VdafError::AggregateShare));
            assert_eq!(vdaf.aggregate(&[], Some(&bad), &[]), Err(VdafError::AggregateShare));
            assert_eq!(vdaf.unshard_signed(&[], &good, &bad, 1), Err(VdafError::AggregateShare));
            let noise = vec![BigInt::from(0); config.length()];
            assert_eq!(vdaf.add_noise(&bad, &noise), Err(VdafError::AggregateShare));
        }
    }
}

#[test]
fn shares_of_another_vdaf_are_refused() {
    let [count, histogram] = [VdafConfig::Count, VdafConfig::histogram(4)];
    let [share, _] = Report::new(&histogram, 0).verify().ok().unwrap();
    assert_eq!(vdaf(&count).aggregate(&[], None, &[&share]), Err(VdafError::Foreign("output share")));
    assert_eq!(
        vdaf(&VdafConfig::histogram(5)).aggregate(&[], None, &[&share]),
        Err(VdafError::Foreign("output share"))
    );
    let begun = Report::new(&histogram, 0).leader().ok().unwrap();
    let refused = vdaf(&count).leader_continued(CONTEXT, &[], begun.state, &[2, 0, 0, 0, 0]).err();
    assert_eq!(refused, Some(VdafError::Foreign("verification state")));
}
