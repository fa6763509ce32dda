use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::SecurityScheme;
use utoipa::openapi::{
    Content, HttpMethod, ObjectBuilder, Required, ResponseBuilder, SecurityRequirement, Type,
};

use super::answers::refusal;
use super::schemas::{id, named, text};

/// What a document says of one call.
pub(super) struct Call {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    operation: OperationBuilder,
    demands: Demands,
}

/// What of a token a call demands.
#[derive(Clone, Copy)]
enum Demands {
    Nothing,
    Token,
    Scope(&'static str),
}

impl Call {
    /// A call that any token may make.
    pub(super) fn new(method: HttpMethod, path: &'static str, name: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new()
            .operation_id(Some(name))
            .summary(Some(summary))
            .tag("service-tokens");
        let demands = Demands::Token;
        let call = Self {
            method,
            path,
            operation,
            demands,
        };
        let call = call.refused(&[400, 401, 429, 500, 503]);
        if path.contains("{id}") {
            let id = parameter("id", ParameterIn::Path, id(), "The public id of the token.");
            return call.parameter(id).refused(&[404]);
        }
        call
    }

    /// A call that needs no token.
    pub(super) fn open(path: &'static str, name: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new()
            .operation_id(Some(name))
            .summary(Some(summary));
        Self {
            method: HttpMethod::Get,
            path,
            operation,
            demands: Demands::Nothing,
        }
    }

    /// The scope it needs.
    pub(super) fn needs(mut self, scope: &'static str) -> Self {
        let description = format!("Needs the scope `{scope}` or `service-tokens:admin`.");
        self.operation = self.operation.description(Some(description));
        self.demands = Demands::Scope(scope);
        self.refused(&[403])
    }

    pub(super) fn parameter(mut self, parameter: Parameter) -> Self {
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// A change of one token, made only to the revisions that `If-Match` names.
    pub(super) fn conditional(self) -> Self {
        let description = "The `ETag` of the token: it is changed only at that revision. Takes \
                           several, or `*` (RFC 9110 §13.1.1).";
        let tags = parameter("If-Match", ParameterIn::Header, text(), description);
        self.parameter(tags).refused(&[409, 412])
    }

    /// A change that is refused if no token may administer afterwards, unless it is confirmed.
    pub(super) fn keeps_admin(self) -> Self {
        let confirmed = ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .default(Some(false.into()));
        let description = "Confirms that no token may administer tokens afterwards. Without it, such \
                           a change is refused with 409 `last_admin`.";
        let confirmed = parameter("last_admin", ParameterIn::Query, confirmed, description);
        self.parameter(confirmed).refused(&[409])
    }

    /// The body it takes, of one of these types.
    pub(super) fn takes(mut self, types: &[&str], schema: &str, required: Required) -> Self {
        let body = RequestBodyBuilder::new().required(Some(required));
        let content = || Content::new(Some(named(schema)));
        let body = types
            .iter()
            .fold(body, |body, kind| body.content(*kind, content()));
        self.operation = self.operation.request_body(Some(body.build()));
        self.refused(&[413, 415, 422])
    }

    pub(super) fn answered(mut self, status: u16, answer: ResponseBuilder) -> Self {
        self.operation = self.operation.response(status.to_string(), answer.build());
        self
    }

    pub(super) fn refused(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            self.operation = self
                .operation
                .response(status.to_string(), refusal(*status));
        }
        self
    }

    /// For tokens that are sent by one of these security schemes.
    pub(super) fn into_operation(self, schemes: &[(String, SecurityScheme)]) -> Operation {
        let scopes = match self.demands {
            Demands::Nothing => {
                let nothing = SecurityRequirement::default();
                return self.operation.securities(Some([nothing])).build();
            }
            Demands::Token => None,
            Demands::Scope(scope) => Some(scope),
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
