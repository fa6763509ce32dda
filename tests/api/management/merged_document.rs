//! The OpenAPI document of the management API within the document of an application.

use std::collections::BTreeSet;
use std::future::ready;

use http::{HeaderName, StatusCode};
use serde_json::{Map, Value, json};
use tower_service_token::api::management::ManagementApi;
use tower_service_token::header::{CredentialSources, TokenHeader};
use tower_service_token::lifecycle::Owner;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
use utoipa::Modify;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Info, OpenApi, Paths};

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

fn api(layer: &ServiceTokenLayer) -> ManagementApi {
    ManagementApi::new(ServiceTokens::new(MemoryStore::new()), layer.clone())
}

fn api_for_actors() -> ManagementApi {
    let tokens = ServiceTokens::new(MemoryStore::new());
    ManagementApi::for_actor(tokens, |_| ready(Err::<Owner, _>(StatusCode::UNAUTHORIZED)))
}

/// Documents the session of an application, and that each operation needs it.
struct Session;

impl Modify for Session {
    fn modify(&self, document: &mut OpenApi) {
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("id")));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("session", cookie);
        document.security = Some(vec![SecurityRequirement::new("session", [""; 0])]);
    }
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
        let management = api(&layer).openapi();
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
        let document = serde_json::to_value(api(&layer).openapi()).unwrap();
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

/// As of administrators with service tokens and of users with sessions.
#[test]
fn documents_of_two_apis_nest_into_one() {
    let layer = ServiceTokenLayer::new(MemoryStore::new());
    let apis = [
        ("/admin", api(&layer)),
        (
            "/ci",
            api(&layer.accept_bearer()).with_operation_id_prefix("ci_"),
        ),
        (
            "/account",
            api_for_actors()
                .with_openapi_modifier(Session)
                .with_operation_id_prefix("account."),
        ),
        (
            "/partner",
            api_for_actors().with_operation_id_prefix("partner-"),
        ),
    ];
    let host = OpenApi::new(Info::new("Application", "1.0.0"), Paths::new());
    let merged = apis.iter().fold(host, |document, (path, api)| {
        document.nest(*path, api.openapi())
    });
    let merged = serde_json::to_value(merged).unwrap();

    let paths = merged["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().values();
        operations.map(move |operation| (path, operation))
    });
    let ids: Vec<_> = operations
        .clone()
        .map(|(_, operation)| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    for id in [
        "getServiceToken",
        "ci_getServiceToken",
        "account.getServiceToken",
    ] {
        assert!(ids.contains(&id), "{id}");
    }
    for pointer in references(&merged) {
        assert!(merged.pointer(&pointer).is_some(), "{pointer}");
    }
    for (path, api) in apis {
        let own = serde_json::to_value(api.openapi()).unwrap();
        for kind in ["schemas", "responses", "securitySchemes"] {
            for (name, component) in own["components"][kind].as_object().into_iter().flatten() {
                assert_eq!(
                    &merged["components"][kind][name], component,
                    "{path} {name}"
                );
            }
        }
    }
    assert_eq!(merged.get("security"), None);
    for (path, operation) in operations {
        let security = operation.get("security").map(Value::to_string);
        let security = security.unwrap_or_default();
        let is_public = path.ends_with("/openapi.json");
        let expected = match path.split('/').nth(1).unwrap() {
            _ if is_public => "[{}]",
            "account" => r#"[{"session":[]}]"#,
            "partner" => "",
            "ci" => "serviceTokenBearer",
            _ => "serviceTokenHeader",
        };
        assert!(security.contains(expected), "{path}: {security}");
        assert_eq!(security.is_empty(), expected.is_empty(), "{path}");
        let is_of_ci = expected == "serviceTokenBearer";
        assert_eq!(security.contains("Bearer"), is_of_ci, "{path}");
    }
}
