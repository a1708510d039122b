//! The description of the routes (OpenAPI 3.1), made of the same tables that serve them.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use wdsr_request::PARAMETERS;

use crate::routes::{ROUTES, Route};

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "wdsr",
            "summary": "Upscales images with WDSR networks.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": { "code": { "type": "string" }, "message": { "type": "string" } },
                },
                "Job": {
                    "type": "object",
                    "required": ["id", "status"],
                    "properties": {
                        "id": { "type": "string" },
                        "status": { "enum": ["queued", "running", "done", "failed", "cancelled"] },
                        "progress": { "type": "number", "minimum": 0, "maximum": 1 },
                        "report": { "type": "object" },
                        "warnings": { "type": "array", "items": { "type": "string" } },
                        "bytes": { "type": "integer" },
                        "error": { "$ref": "#/components/schemas/Error" },
                    },
                },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{}, { "token": [] }],
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters = Vec::new();
    if route.path.contains("{id}") {
        parameters.push(json!({
            "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
        }));
    }
    if route.upscales {
        parameters.extend(PARAMETERS.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "in": "query",
                "description": parameter.summary,
                "schema": (parameter.schema)(),
            })
        }));
    }
    let mut operation = json!({
        "summary": route.summary,
        "operationId": format!("{} {}", route.method, route.path),
        "parameters": parameters,
        "responses": responses(route),
    });
    if route.upscales {
        let file = json!({ "type": "string", "contentMediaType": "image/*" });
        operation["requestBody"] = json!({
            "required": true,
            "content": {
                "image/*": {},
                "application/octet-stream": {},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": { "file": file },
                        "additionalProperties": false,
                    },
                },
            },
        });
    }
    operation
}

fn responses(route: &Route) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let mut responses = Map::new();
    for (at, status) in route.statuses.iter().enumerate() {
        let code = StatusCode::from_u16(*status).unwrap_or_default();
        let mut response = json!({ "description": code.canonical_reason() });
        let is_job = route.path.starts_with("/v1/jobs");
        response["content"] = match (at, route.answers) {
            (0, "") => json!({}),
            (0, "application/json") if is_job => {
                json!({ "application/json": { "schema": reference("Job") } })
            }
            (0, media_type) => json!({ media_type: {} }),
            _ => json!({ "application/json": { "schema": reference("Error") } }),
        };
        if at == 0 && route.answers == "image/*" {
            let header =
                |text: &str| json!({ "description": text, "schema": { "type": "string" } });
            response["headers"] = json!({
                "wdsr-report": header("Size, steps, model, strength, damage, device and time (not of a stream), as JSON."),
                "wdsr-warnings": header("What the result lacks and what was not computed as requested, as a JSON array of texts."),
            });
        }
        responses.insert(status.to_string(), response);
    }
    responses.into()
}
