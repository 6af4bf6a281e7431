//! The description of the admin API (`OpenAPI` 3.1), made from the very types that it answers with.
//!
//! `docs/openapi.json` is a copy of it, which a test compares.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::policies::{PolicyDetail, PolicyList};
use super::view::{TaskDetail, TaskExport, TaskList};
use crate::budget::BudgetList;
use crate::task_file::TaskText;

/// The document.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let paths = paths(&mut generator);
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mica admin API",
            "version": "1",
            "license": { "name": "MPL-2.0", "identifier": "MPL-2.0" },
            "description": "The tasks, policies and budgets of one leader or helper, for its operator. On a listener of its own \
                            (`admin_listen`), for the holder of the admin token.",
        },
        "security": [{ "admin": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "admin": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn paths(generator: &mut SchemaGenerator) -> Value {
    let task = json!({ "name": "task", "in": "path", "required": true, "schema": { "type": "string" },
                       "description": "The identifier of the task, base64url." });
    let secrets = json!({ "name": "secrets", "in": "query", "schema": { "type": "boolean", "default": false },
                          "description": "Whether the answer may hold secrets." });
    let body = generator.subschema_for::<TaskText>();
    let mut list = operation("List tasks", &[200], &schema::<TaskList>(generator), &[]);
    list["parameters"] = json!([
        number("after", "The `next` of the list before."),
        number("limit", "How many tasks at most, up to 1000."),
    ]);
    let mut create = operation(
        "Add a task; the same task again is the same task",
        &[201, 200],
        &schema::<TaskDetail>(generator),
        &[400, 409, 413, 415, 422],
    );
    create["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": body } } });
    let mut show = operation("Show a task", &[200], &schema::<TaskDetail>(generator), &[404]);
    show["parameters"] = json!([task, secrets]);
    let mut retire = operation(
        "End a task: it takes no more reports; what it took can still be collected",
        &[200],
        &schema::<TaskDetail>(generator),
        &[404],
    );
    retire["parameters"] = json!([task]);
    let mut export = operation("Take a task elsewhere", &[200], &schema::<TaskExport>(generator), &[404]);
    export["parameters"] = json!([task, secrets]);
    let [policies, policy, budgets] = promises(generator);
    let this = operation("This document", &[200], &json!({ "type": "object" }), &[]);
    let mut metrics = operation("What the server counts, as Prometheus reads it", &[], &Value::Null, &[]);
    metrics["responses"]["200"] = json!({
        "description": "ok", "content": { "text/plain; version=0.0.4": { "schema": { "type": "string" } } },
    });
    json!({
        "/metrics": { "get": metrics },
        "/admin/v1/tasks": { "get": list, "post": create },
        "/admin/v1/tasks/{task}": { "get": show },
        "/admin/v1/tasks/{task}/retire": { "post": retire },
        "/admin/v1/tasks/{task}/export": { "get": export },
        "/admin/v1/policies": { "get": policies },
        "/admin/v1/policies/{policy}": { "get": policy },
        "/admin/v1/budgets": { "get": budgets },
        "/admin/v1/openapi.json": { "get": this },
    })
}

/// What is told of policies and budgets.
fn promises(generator: &mut SchemaGenerator) -> [Value; 3] {
    let policies = operation(
        "List every version of every policy that was ever in force",
        &[200],
        &schema::<PolicyList>(generator),
        &[],
    );
    let mut policy = operation(
        "Show a policy word for word, with what is spent and left of its budgets",
        &[200],
        &schema::<PolicyDetail>(generator),
        &[404],
    );
    policy["parameters"] = json!([
        { "name": "policy", "in": "path", "required": true, "schema": { "type": "string" },
          "description": "The policy's own name." },
        number("version", "Which version; that in force when left out, else the newest."),
    ]);
    let budgets = operation(
        "What is spent and left of all budgets, as `mica budget show -o json` prints it",
        &[200],
        &schema::<BudgetList>(generator),
        &[],
    );
    [policies, policy, budgets]
}

fn number(name: &str, what: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": { "type": "integer", "minimum": 0 }, "description": what })
}

fn schema<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().into()
}

/// An operation with its answers; everyone may also be told 401, 403 and 429.
fn operation(summary: &str, good: &[u16], schema: &Value, refusals: &[u16]) -> Value {
    let mut answers = Map::new();
    for status in good {
        let content = json!({ "application/json": { "schema": schema } });
        answers.insert(status.to_string(), json!({ "description": "ok", "content": content }));
    }
    let problem =
        json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    for status in [400, 401, 403, 429].iter().chain(refusals) {
        let phrase = http::StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
        let answer = json!({ "description": phrase.unwrap_or("refused"), "content": problem });
        answers.insert(status.to_string(), answer);
    }
    json!({ "summary": summary, "responses": answers })
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457).",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "taskid": { "type": "string" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn the_copy_in_the_documentation_is_the_document_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let served = format!("{:#}\n", document());
        if std::env::var_os("MICA_UPDATE_DOCS").is_some() {
            std::fs::write(path, &served).expect("the documentation can be written");
        }
        let copy = std::fs::read_to_string(path).expect("docs/openapi.json is there");
        assert!(copy == served, "docs/openapi.json is out of date; run the test with MICA_UPDATE_DOCS=1");
    }

    #[test]
    fn the_metrics_are_described_as_text() {
        let document = document();
        let answers = &document["paths"]["/metrics"]["get"]["responses"];
        assert!(answers["200"]["content"]["text/plain; version=0.0.4"].is_object(), "{answers}");
        assert!(answers["401"].is_object(), "{answers}");
    }

    #[test]
    fn every_schema_that_is_referred_to_is_there() {
        let document = document();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().expect("there are schemas");
        let prefix = "\"$ref\":\"#/components/schemas/";
        let mut found = 0;
        for rest in text.split(prefix).skip(1) {
            let name = rest.split('"').next().unwrap_or_default();
            assert!(schemas.contains_key(name), "{name}");
            found += 1;
        }
        assert!(found > 5);
    }
}
