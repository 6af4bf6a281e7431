//! What a task of strings may count: its prefixes, its parameters, its measurements.

use super::*;

#[test]
fn prefixes_are_counted_in_lexicographic_order_whatever_the_order_asked() {
    let made = encode_prefixes(9, &["110000000", "000000001", "011111111"]).unwrap();
    assert_eq!(made, encode_prefixes(9, &["011111111", "110000000", "000000001"]).unwrap());
    assert_eq!(decode_prefixes(9, &made).unwrap(), ["000000001", "011111111", "110000000"]);
}

#[test]
fn prefixes_that_cannot_be_counted_are_refused_with_the_reason() {
    let refused = |bits: u16, prefixes: &[&str], because: &str| match encode_prefixes(bits, prefixes) {
        Err(VdafError::Prefixes(why)) => assert!(why.contains(because), "{why}"),
        other => panic!("{other:?}"),
    };
    refused(4, &[], "at least one prefix");
    refused(4, &["01", "2"], "zeros and ones");
    refused(4, &["01", "1"], "same length");
    refused(4, &["01", "01"], "nonrepeating");
    refused(4, &[""], "from 1 to 4 bits");
    refused(4, &["01010"], "from 1 to 4 bits");
    let limit = max_prefixes(11);
    let many: Vec<String> = (0..=limit).map(|number| format!("{number:011b}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused(16, &many, "at most 873 of 11 bits");
    let parameter = encode_prefixes(16, &many[..limit]).unwrap();
    assert_eq!(decode_prefixes(16, &parameter).unwrap(), many[..limit]);
}

#[test]
fn a_task_counts_prefixes_exactly_when_it_is_one_of_strings() {
    let strings = VdafConfig::Poplar1 { bits: 4 };
    let made = parameter_of(&strings, &["11", "00"]).unwrap();
    assert_eq!(made, parameter(&["00", "11"]));
    assert_eq!(prefixes_of(&strings, &made), ["00", "11"]);
    assert!(matches!(parameter_of::<&str>(&strings, &[]), Err(VdafError::Prefixes(_))));
    assert!(prefixes_of(&strings, &[]).is_empty(), "of a parameter that is none");
    assert_eq!(parameter_of::<&str>(&VdafConfig::Count, &[]), Ok(Vec::new()));
    assert!(matches!(parameter_of(&VdafConfig::Count, &["0"]), Err(VdafError::Prefixes(_))));
    assert!(prefixes_of(&VdafConfig::Count, &made).is_empty());
}

#[test]
fn parameters_that_kill_the_library_never_reach_it() {
    let vdaf = vdaf(&VdafConfig::Poplar1 { bits: MAX_POPLAR1_BITS });
    let one_too_many = max_prefixes(16) + 1;
    let count = u32::try_from(one_too_many).unwrap().to_be_bytes();
    let numbers = (0..one_too_many).flat_map(|number| u16::try_from(number).unwrap().to_be_bytes());
    let too_many: Vec<u8> = [0, 15].into_iter().chain(count).chain(numbers).collect();
    for hostile in [
        "ffff00000001",
        "ffffffffffff",
        "ffff00000000",
        "0000ffffffff",
        "000000000000",
        "0400000000010000",
        "00000000000100ff",
        "000000000001",
        "0000000000",
        "",
        "000000000001c0",
        "0000000000020080ff",
        "0000000000028000",
        "0000000000020000",
    ]
    .map(|text| hex::decode(text).unwrap())
    .iter()
    .chain([&too_many])
    {
        let refused = Some(VdafError::AggregationParameter);
        assert_eq!(vdaf.check_aggregation_parameter(hostile).err(), refused, "{}", hex::encode(hostile));
        assert_eq!(vdaf.aggregate(hostile, None, &[]).err(), refused);
        assert_eq!(vdaf.merge(hostile, &[], &[]).err(), refused);
        assert_eq!(vdaf.unshard_signed(hostile, &[], &[], 0).err(), refused);
        assert_eq!(vdaf.result_length(hostile).err(), refused);
        assert_eq!(decode_prefixes(MAX_POPLAR1_BITS, hostile).err(), refused);
        assert_eq!(decode_prefixes(u16::MAX, hostile).err(), refused);
    }
}

#[test]
fn a_level_below_the_leaves_is_refused() {
    let vdaf = vdaf(&VdafConfig::Poplar1 { bits: BITS });
    let deeper = encode_prefixes(BITS + 1, &["01010"]).unwrap();
    assert_eq!(vdaf.check_aggregation_parameter(&deeper), Err(VdafError::AggregationParameter));
    assert_eq!(vdaf.check_aggregation_parameter(&parameter(&["0101"])), Ok(()));
}

#[test]
fn strings_of_no_bits_and_of_too_many_are_refused() {
    for bits in [0, MAX_POPLAR1_BITS + 1, u16::MAX] {
        let refused = VdafConfig::Poplar1 { bits }.instantiate().err();
        assert!(matches!(refused, Some(VdafError::Configuration(_))), "{bits}");
    }
    let lengths = vdaf(&VdafConfig::Poplar1 { bits: 4 }).share_lengths().unwrap();
    assert_eq!((lengths.public_share, lengths.input_shares), (177, [160, 160]));
    assert!(vdaf(&VdafConfig::Poplar1 { bits: MAX_POPLAR1_BITS }).share_lengths().is_ok());
}

#[test]
fn a_string_of_another_length_is_no_measurement() {
    let config = VdafConfig::Poplar1 { bits: 4 };
    assert_eq!(
        Measurement::parse(&config, " 0110\n").unwrap(),
        Measurement::Bits(vec![false, true, true, false])
    );
    for text in ["011", "01100", "", "01a0", "0,1,1,0"] {
        assert!(matches!(Measurement::parse(&config, text), Err(VdafError::Measurement(_))), "{text}");
    }
    let nonce = ReportId::new([1; 16]);
    for other in every_kind() {
        assert!(vdaf(&config).shard(CONTEXT, &measurement(&other, 1), &nonce).is_err());
        assert!(vdaf(&other).shard(CONTEXT, &measurement(&config, 1), &nonce).is_err());
    }
}
