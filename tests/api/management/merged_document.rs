//! The OpenAPI document of the management API within the document of an application.

use std::collections::BTreeSet;

use http::HeaderName;
use serde_json::{Map, Value, json};
use tower_service_token::api::management::ManagementApi;
use tower_service_token::header::{CredentialSources, TokenHeader};
use tower_service_token::{MemoryStore, ServiceTokenLayer};
use utoipa::Modify;
use utoipa::openapi::OpenApi;

const PREFIX: &str = "ServiceToken";
const KINDS: [&str; 2] = ["schemas", "responses"];

fn layers() -> [(ServiceTokenLayer, Vec<&'static str>); 4] {
    let layer = || ServiceTokenLayer::new(MemoryStore::new());
    let header = TokenHeader::new(HeaderName::from_static("x-build-token")).unwrap();
    let only_header = CredentialSources::none().with_header(header.clone());
    let defaults = ["serviceToken", "serviceTokenHeader"];
    let bearer = ["serviceToken", "serviceTokenBearer", "serviceTokenHeader"];
    let another = ["serviceToken", "serviceTokenHeader", "x-build-token"];
    [
        (layer(), defaults.to_vec()),
        (layer().accept_bearer(), bearer.to_vec()),
        (layer().with_header(header), another.to_vec()),
        (
            layer().with_sources(only_header),
            ["x-build-token"].to_vec(),
        ),
    ]
}

fn components<'a>(document: &'a Value, kind: &str) -> &'a Map<String, Value> {
    document["components"][kind].as_object().unwrap()
}

/// Returns the document of an application whose components have the names of those of the management
/// API without the prefix, and whose paths are those of the management API.
fn application(management: &Value) -> Value {
    let mut own = json!({});
    for kind in KINDS {
        for name in components(management, kind).keys() {
            let name = name.strip_prefix(PREFIX).unwrap();
            let name = if name.is_empty() { "Token" } else { name };
            own[kind][name] = match kind {
                "schemas" => json!({ "type": "string", "description": "of the application" }),
                _ => json!({ "description": "of the application" }),
            };
        }
    }
    let get = json!({
        "operationId": "ofTheApplication",
        "responses": { "404": { "$ref": "#/components/responses/NotFound" } },
    });
    let paths = management["paths"].as_object().unwrap().keys();
    let paths: Map<_, _> = paths
        .map(|path| (path.clone(), json!({ "get": get })))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Application", "version": "1.0.0" },
        "paths": paths,
        "components": own,
    })
}

/// Returns the targets of all references in the document.
fn references(document: &Value) -> BTreeSet<String> {
    let text = document.to_string();
    let references = text.split("\"$ref\":\"#").skip(1);
    let pointers = references.map(|rest| rest.split('"').next().unwrap().to_owned());
    pointers.collect()
}

#[test]
fn document_nests_into_that_of_an_application_without_collisions() {
    for (layer, schemes) in layers() {
        let management = ManagementApi::openapi_for_layer(&layer);
        let ours = serde_json::to_value(&management).unwrap();
        let theirs = application(&ours);
        let mut document: OpenApi = serde_json::from_value(theirs.clone()).unwrap();
        layer.modify(&mut document);
        let merged = serde_json::to_value(document.nest("/admin", management)).unwrap();

        for kind in KINDS {
            let both = components(&ours, kind)
                .iter()
                .chain(components(&theirs, kind));
            for (name, component) in both {
                assert_eq!(merged["components"][kind].get(name), Some(component));
            }
            let count = components(&ours, kind).len() + components(&theirs, kind).len();
            assert_eq!(components(&merged, kind).len(), count, "{kind}");
        }
        for (path, item) in theirs["paths"].as_object().unwrap() {
            assert_eq!(&merged["paths"][path], item, "{path}");
        }
        for (path, item) in ours["paths"].as_object().unwrap() {
            assert_eq!(&merged["paths"][format!("/admin{path}")], item, "{path}");
        }
        let expected: BTreeSet<_> = &references(&ours) | &references(&theirs);
        assert_eq!(references(&merged), expected);
        for pointer in expected {
            assert!(merged.pointer(&pointer).is_some(), "{pointer}");
        }
        assert_eq!(merged["info"]["title"], "Application");
        assert_eq!(merged.get("security"), None);
        assert_eq!(merged.get("servers"), None);
        let declared = components(&merged, "securitySchemes");
        assert!(declared.keys().eq(&schemes), "{declared:?}");
    }
}

#[test]
fn operations_require_only_the_schemes_of_the_layer() {
    for (layer, schemes) in layers() {
        let document = serde_json::to_value(ManagementApi::openapi_for_layer(&layer)).unwrap();
        let mut operations = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                let security = operation["security"].as_array().unwrap();
                let required = security
                    .iter()
                    .flat_map(|it| it.as_object().unwrap().keys());
                let required: BTreeSet<_> = required.map(String::as_str).collect();
                let expected = if path == "/openapi.json" {
                    BTreeSet::new()
                } else {
                    operations += 1;
                    schemes.iter().copied().collect()
                };
                assert_eq!(required, expected, "{path}");
            }
        }
        assert!(operations > 10, "{operations}");
    }
}
