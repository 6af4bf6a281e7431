//! The JSON Schema: fresh, right about what is right, and of use where a schema can be.

use serde_json::{Map, Value, json};

use super::*;
use crate::policy::schema::{NUMBER, TEXT, TIME_SPAN, WHOLE};

/// As an editor sees a TOML file.
fn as_json(text: &str) -> Value {
    let document = toml_edit::Document::parse(text).unwrap();
    table(document.as_table())
}

fn table(table: &dyn toml_edit::TableLike) -> Value {
    let fields = table.iter().map(|(key, item)| (key.to_owned(), item_json(item)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn item_json(item: &toml_edit::Item) -> Value {
    if let Some(tables) = item.as_array_of_tables() {
        return tables.iter().map(|it| table(it)).collect();
    }
    match item.as_value() {
        Some(value) => value_json(value),
        None => table(item.as_table_like().unwrap()),
    }
}

fn value_json(value: &toml_edit::Value) -> Value {
    use toml_edit::Value as Toml;
    match value {
        Toml::String(text) => json!(text.value()),
        Toml::Integer(number) => json!(number.value()),
        Toml::Float(number) => json!(number.value()),
        Toml::Boolean(value) => json!(value.value()),
        Toml::Datetime(moment) => json!(moment.value().to_string()),
        Toml::Array(items) => items.iter().map(value_json).collect(),
        Toml::InlineTable(inline) => table(inline),
    }
}

/// Whether `value` obeys `schema`, for the words that the schema uses; any other word fails the test.
fn obeys(schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return schema == &Value::Bool(true) };
    schema.iter().all(|(word, rule)| match word.as_str() {
        "$schema" | "title" | "description" | "then" | "format" => true,
        "type" => match rule.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            other => panic!("{other}"),
        },
        "enum" => rule.as_array().unwrap().contains(value),
        "const" => rule == value,
        "minimum" => value.as_f64().is_none_or(|it| it >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|it| it <= rule.as_f64().unwrap()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|it| it > rule.as_f64().unwrap()),
        "minItems" => value.as_array().is_none_or(|it| it.len() as u64 >= rule.as_u64().unwrap()),
        "pattern" => value.as_str().is_none_or(|text| is_like(rule.as_str().unwrap(), text)),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| obeys(rule, item))),
        "required" => value.as_object().is_none_or(|fields| {
            rule.as_array().unwrap().iter().all(|key| fields.contains_key(key.as_str().unwrap()))
        }),
        "properties" => value.as_object().is_none_or(|fields| {
            let rules = rule.as_object().unwrap();
            rules.iter().all(|(key, rule)| fields.get(key).is_none_or(|value| obeys(rule, value)))
        }),
        "additionalProperties" => {
            let known = schema["properties"].as_object().unwrap();
            rule == &Value::Bool(false)
                && value.as_object().is_none_or(|fields| fields.keys().all(|key| known.contains_key(key)))
        }
        "allOf" => rule.as_array().unwrap().iter().all(|it| obeys(it, value)),
        "anyOf" => rule.as_array().unwrap().iter().any(|it| obeys(it, value)),
        "oneOf" => rule.as_array().unwrap().iter().filter(|it| obeys(it, value)).count() == 1,
        "if" => !obeys(rule, value) || obeys(&schema["then"], value),
        other => panic!("the schema uses {other}"),
    })
}

/// The few patterns of the schema, without an engine for all of them.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern {
        TEXT => !text.trim().is_empty(),
        WHOLE => !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()),
        NUMBER => text.parse::<Rational>().is_ok(),
        TIME_SPAN => {
            text.ends_with(['s', 'm', 'h', 'd', 'w']) && is_like(WHOLE, &text[..text.len().saturating_sub(1)])
        }
        other => panic!("{other}"),
    }
}

fn accepts(text: &str) -> bool {
    obeys(&json_schema(), &as_json(text))
}

#[test]
fn the_schema_file_is_the_one_that_the_reader_would_make() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/schema.json");
    let kept = std::fs::read_to_string(path).expect("the file is there");
    assert_eq!(
        kept,
        format!("{:#}\n", json_schema()),
        "write it anew: mica policy schema > policies/schema.json"
    );
}

#[test]
fn the_schema_accepts_every_valid_file() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "toml") {
            assert!(accepts(&std::fs::read_to_string(&path).unwrap()), "{}", path.display());
            read += 1;
        }
    }
    assert!(read >= 5);
    assert!(accepts(GOOD));
    assert!(accepts(&Policy::for_demo("x", &VdafConfig::sum_vec(8, u64::MAX), 10, "1/3")));
    assert!(accepts(&Policy::for_release_without_dp("a test", "2099-12-31")));
    for (old, new) in [
        ("rho = 0.25", "rho = \"1/4\""),
        ("version = 7", "version = 7\neffective_from = 2026-12-01T00:00:00Z\nepsilon_ceiling = 8"),
        ("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\", epoch = \"1d\""),
        ("kind = \"lifetime\"", "kind = \"calendar\", unit = \"month\""),
        ("on_exhausted", "warn_at = 0.8\non_exhausted"),
        ("rho_per_release = 0.0025", "noise_scale = 20"),
    ] {
        let text = with(old, new);
        assert!(accepts(&text) && errors(&text).is_empty(), "{new}");
    }
}

#[test]
fn the_schema_refuses_what_a_schema_can_refuse() {
    for (old, new) in [
        ("schema = \"dp-policy/1\"\n", ""),
        ("dp-policy/1", "dp-policy/2"),
        ("[unmatched]", "[unmached]"),
        ("version = 7", "version = 0"),
        ("version = 7", "version = \"seven\""),
        ("id = \"acme\"", "id = \"\""),
        ("privacy_unit = \"client\"", "privacy_unit = \"person\""),
        ("\"replace_one\"", "\"add_or_remove_one\""),
        ("rho = 0.25", "rho = -0.25"),
        ("rho = 0.25", "rho = 0"),
        ("rho = 0.25", "epsilon = 0.25"),
        ("report_delta = 1e-8\n", ""),
        ("report_delta = 1e-8", "report_delta = 1.5"),
        ("kind = \"lifetime\"", "kind = \"rolling\", length = \"30d\""),
        ("kind = \"lifetime\"", "kind = \"lifetime\", length = \"30d\""),
        ("kind = \"lifetime\"", "kind = \"calendar\""),
        ("on_exhausted = \"refuse\"", "on_exhausted = \"ignore\""),
        ("charge = [\"a\"]", "charge = []"),
        ("length = 1000", "length = 1000, max_weight = 3"),
        ("length = 1000", "lenght = 1000"),
        ("prio3-histogram", "poplar1"),
        ("rho_per_release = 0.0025", "epsilon_per_release = 0.0025"),
        ("rho_per_release = 0.0025", "rho_per_release = 0.0025\nnoise_scale = 20"),
        ("rho_per_release = 0.0025\n", ""),
        ("\"each_aggregator\"", "\"half_each\""),
        ("min_batch_size = 1000", "min_batch_size = 1000\nsensitivity = 1"),
        ("label = \"page-load\"", "label = \"page-load\", task_ids = [\"x\"]"),
        ("action = \"refuse\"", "action = \"release_without_dp\""),
        ("action = \"refuse\"", "action = \"refuse\"\njustification = \"x\""),
    ] {
        let text = with(old, new);
        assert!(!accepts(&text), "the schema accepts {new:?}");
        assert!(!errors(&text).is_empty(), "the reader accepts {new:?}");
    }
}
