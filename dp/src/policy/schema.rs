//! The JSON Schema of policy files, for editors: made from the catalogue that the reader goes by.
//!
//! It finds misspelt keys and words, missing keys and wrong types while a file is written. What takes arithmetic or
//! two tables to see is for [`Policy::parse`](super::Policy::parse).

use serde_json::{Map, Value, json};

use super::catalogue::{self, Case, Kind, Table};

/// A number as a text: a decimal, or a fraction of two whole numbers.
pub(super) const NUMBER: &str = "^[0-9][0-9_]*(\\.[0-9_]+)?([eE][+-]?[0-9]+)?$|^[0-9_]+ */ *[0-9_]+$";
/// A whole number as a text.
pub(super) const WHOLE: &str = "^[0-9]+$";
/// A time span.
pub(super) const TIME_SPAN: &str = "^[0-9]+[smhdw]$";
/// A text with something in it.
pub(super) const TEXT: &str = "\\S";

/// The schema of `dp-policy/1`, in the dialect of 2020-12.
pub fn json_schema() -> Value {
    let mut schema = table(&catalogue::ROOT);
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("mica policy (dp-policy/1)"));
    Value::Object(schema)
}

fn table(table: &Table) -> Map<String, Value> {
    let properties: Map<String, Value> = table
        .keys
        .iter()
        .map(|key| {
            let mut schema = kind(&key.kind);
            schema.insert("description".to_owned(), json!(key.about));
            (key.name.to_owned(), Value::Object(schema))
        })
        .collect();
    let needed: Vec<&str> = table.keys.iter().filter(|key| key.needed).map(|key| key.name).collect();
    let mut schema = object(json!({
        "type": "object",
        "description": table.about,
        "properties": properties,
        "required": needed,
        "additionalProperties": false,
    }));
    if let Some(cases) = &table.cases {
        let cases: Vec<Value> = cases.cases.iter().map(|it| case(cases.by, it)).collect();
        schema.insert("allOf".to_owned(), Value::Array(cases));
    }
    if !table.one_of.is_empty() {
        let one: Vec<Value> = table.one_of.iter().map(|key| json!({ "required": [key] })).collect();
        schema.insert("oneOf".to_owned(), Value::Array(one));
    }
    schema
}

/// If the deciding key has this word, other keys are needed or make no sense.
fn case(by: &str, case: &Case) -> Value {
    let refused: Map<String, Value> =
        case.refuses.iter().map(|key| ((*key).to_owned(), Value::Bool(false))).collect();
    json!({
        "if": { "properties": { by: { "const": case.word } }, "required": [by] },
        "then": { "required": case.needs, "properties": refused },
    })
}

fn kind(kind: &Kind) -> Map<String, Value> {
    let number = |limits: Value| {
        let mut number = object(limits);
        number.insert("type".to_owned(), json!("number"));
        json!({ "anyOf": [number, { "type": "string", "pattern": NUMBER }] })
    };
    object(match kind {
        Kind::Text => json!({ "type": "string", "pattern": TEXT }),
        Kind::Words(words) => json!({ "enum": words }),
        Kind::Amount => number(json!({ "exclusiveMinimum": 0 })),
        Kind::Share => number(json!({ "exclusiveMinimum": 0, "maximum": 1 })),
        Kind::Whole => json!({
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": WHOLE }],
        }),
        Kind::Day => json!({ "type": "string", "format": "date" }),
        Kind::Moment => json!({ "type": "string", "format": "date-time" }),
        Kind::TimeSpan => json!({ "type": "string", "pattern": TIME_SPAN }),
        Kind::Texts => {
            json!({ "type": "array", "minItems": 1, "items": { "type": "string", "pattern": TEXT } })
        }
        Kind::One(inner) => Value::Object(table(inner)),
        Kind::Many(inner) => json!({ "type": "array", "items": table(inner) }),
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
