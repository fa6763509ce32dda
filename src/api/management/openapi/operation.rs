use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::SecurityScheme;
use utoipa::openapi::{
    Content, HttpMethod, ObjectBuilder, Required, ResponseBuilder, SecurityRequirement, Type,
};

use super::responses::error_response;
use super::schemas::{id, named, string};

/// What a document says of one call.
pub(super) struct ApiOperation {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    operation: OperationBuilder,
    required_auth: RequiredAuth,
}

/// What of a token a call demands.
#[derive(Clone, Copy)]
enum RequiredAuth {
    None,
    Token,
    Scope(&'static str),
}

impl ApiOperation {
    /// A call that any token may make.
    pub(super) fn new(method: HttpMethod, path: &'static str, name: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new()
            .operation_id(Some(name))
            .summary(Some(summary))
            .tag("service-tokens");
        let required_auth = RequiredAuth::Token;
        let call = Self {
            method,
            path,
            operation,
            required_auth,
        };
        let call = call.with_errors(&[400, 401, 429, 500, 503]);
        if path.contains("{id}") {
            let id = parameter("id", ParameterIn::Path, id(), "The public id of the token.");
            return call.parameter(id).with_errors(&[404]);
        }
        call
    }

    /// A call that needs no token.
    pub(super) fn public(path: &'static str, name: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new()
            .operation_id(Some(name))
            .summary(Some(summary));
        Self {
            method: HttpMethod::Get,
            path,
            operation,
            required_auth: RequiredAuth::None,
        }
    }

    /// The scope it needs.
    pub(super) fn requires_scope(mut self, scope: &'static str) -> Self {
        let description = format!("Needs the scope `{scope}` or `service-tokens:admin`.");
        self.operation = self.operation.description(Some(description));
        self.required_auth = RequiredAuth::Scope(scope);
        self.with_errors(&[403])
    }

    pub(super) fn parameter(mut self, parameter: Parameter) -> Self {
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// A change of one token, made only to the revisions that `If-Match` names.
    pub(super) fn conditional(self) -> Self {
        let description = "The `ETag` of the token: it is changed only at that revision. Takes \
                           several, or `*` (RFC 9110 §13.1.1).";
        let tags = parameter("If-Match", ParameterIn::Header, string(), description);
        self.parameter(tags).with_errors(&[409, 412])
    }

    /// A change that is refused if no token may administer afterwards, unless it is confirmed.
    pub(super) fn with_last_admin_confirmation(self) -> Self {
        let confirmed = ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .default(Some(false.into()));
        let description = "Confirms that no token may administer tokens afterwards. Without it, such \
                           a change is refused with 409 `last_admin`.";
        let confirmed = parameter("last_admin", ParameterIn::Query, confirmed, description);
        self.parameter(confirmed).with_errors(&[409])
    }

    /// The body it takes, of one of these types.
    pub(super) fn with_request_body(
        mut self,
        types: &[&str],
        schema: &str,
        required: Required,
    ) -> Self {
        let body = RequestBodyBuilder::new().required(Some(required));
        let content = || Content::new(Some(named(schema)));
        let body = types
            .iter()
            .fold(body, |body, kind| body.content(*kind, content()));
        self.operation = self.operation.request_body(Some(body.build()));
        self.with_errors(&[413, 415, 422])
    }

    pub(super) fn with_response(mut self, status: u16, answer: ResponseBuilder) -> Self {
        self.operation = self.operation.response(status.to_string(), answer.build());
        self
    }

    pub(super) fn with_errors(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            self.operation = self
                .operation
                .response(status.to_string(), error_response(*status));
        }
        self
    }

    /// For tokens that are sent by one of these security schemes.
    pub(super) fn into_operation(self, schemes: &[(String, SecurityScheme)]) -> Operation {
        let scopes = match self.required_auth {
            RequiredAuth::None => {
                let nothing = SecurityRequirement::default();
                return self.operation.securities(Some([nothing])).build();
            }
            RequiredAuth::Token => None,
            RequiredAuth::Scope(scope) => Some(scope),
        };
        let names = schemes.iter().map(|(name, _)| name);
        let securities = names.map(|name| SecurityRequirement::new(name, scopes));
        self.operation.securities(Some(securities)).build()
    }
}

/// A parameter; only those in a path are required.
pub(super) fn parameter(
    name: &str,
    place: ParameterIn,
    schema: ObjectBuilder,
    description: &str,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .required(Required::False)
        .parameter_in(place)
        .required(Required::False)
        .schema(Some(schema))
        .description(Some(description))
        .build()
}
