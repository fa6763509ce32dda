//! Apache with `mod_oauth2`, which introspects each token at the token server.

use test_support::port::ReservedPort;

use crate::proxies::daemon::{Daemon, Folder};
use crate::proxies::http::{HttpResponse, get};
use crate::proxies::tokens::TokenServer;

/// The token server, and an Apache that introspects there.
struct ApacheServer {
    apache: Daemon,
    tokens: TokenServer,
}

/// The configuration, with placeholders `{…}`. The cache is off, so each request is introspected.
const CONFIGURATION: &str = r#"
ServerName localhost
ServerRoot {folder}
Listen 127.0.0.1:{port}
PidFile {folder}/pid
Mutex pthread
ErrorLog {folder}/error.log
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule oauth2_module /usr/lib/apache2/modules/mod_oauth2.so
DocumentRoot {folder}
OAuth2TokenVerify introspect http://127.0.0.1:{tokens}/introspect introspect.auth=client_secret_basic&client_id={id}&client_secret={secret}&introspect.expiry=0&expiry=0
OAuth2TargetPass remote_user_claim=client_id
<Location />
    AuthType oauth2
    AuthzSendForbiddenOnFailure On
</Location>
Header set X-Name "%{OAUTH2_CLAIM_name}e"
Header set X-Client-Id "%{OAUTH2_CLAIM_client_id}e"
<Location /any>
    Require valid-user
</Location>
<Location /deploy>
    Require oauth2_claim roles:deployer
</Location>
<Location /write>
    Require oauth2_claim scope:projects:write
</Location>
<Location /admin>
    Require oauth2_claim roles:admin
</Location>
"#;

impl ApacheServer {
    fn new() -> Self {
        let tokens = TokenServer::start();
        let (port, folder) = (ReservedPort::new(), Folder::new());
        let path = folder.path().to_str().expect("UTF-8").to_owned();
        let mut configuration = CONFIGURATION.to_owned();
        for (name, value) in [
            ("{folder}", &*path),
            ("{port}", &port.address().port().to_string()),
            ("{tokens}", &tokens.port.to_string()),
            ("{id}", tokens.service_id()),
            ("{secret}", &tokens.service),
        ] {
            configuration = configuration.replace(name, value);
        }
        folder.write("apache.conf", &configuration);
        for page in ["any", "deploy", "write", "admin"] {
            folder.write(page, "served");
        }
        let file = format!("{path}/apache.conf");
        let command = ["/usr/sbin/apache2", "-X", "-f", &file];
        Self {
            apache: Daemon::start(folder, port, &command),
            tokens,
        }
    }

    fn get_with(&self, path: &str, token: &str) -> HttpResponse {
        let bearer = format!("Bearer {token}");
        get(self.apache.port(), path, &[("Authorization", &bearer)])
    }
}

pub(crate) fn valid_token_is_accepted_with_its_claims() {
    let server = ApacheServer::new();
    let user = &server.tokens.user;
    let response = server.get_with("/any", user);
    assert_eq!((response.status, &*response.body), (200, "served"));
    assert_eq!(response.header("X-Name"), "ci");
    assert_eq!(
        response.header("X-Client-Id"),
        &user["svctok-".len()..][..10]
    );
}

pub(crate) fn apache_rejects_invalid_tokens() {
    let server = ApacheServer::new();
    let mistyped = server.tokens.user.replace("svctok-", "svctok-0");
    for token in [
        "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
        &mistyped,
        "x",
    ] {
        for page in ["/any", "/deploy"] {
            assert_eq!(server.get_with(page, token).status, 401, "{page}");
        }
    }
    assert_eq!(get(server.apache.port(), "/any", &[]).status, 401);
}

pub(crate) fn missing_role_or_scope_is_403() {
    let server = ApacheServer::new();
    let (user, service) = (&server.tokens.user, &server.tokens.service);
    for (page, token, status) in [
        ("/deploy", user, 200),
        ("/write", user, 200),
        ("/admin", user, 403),
        ("/any", service, 200),
        ("/deploy", service, 403),
        ("/write", service, 403),
    ] {
        assert_eq!(server.get_with(page, token).status, status, "{page}");
    }
}

pub(crate) fn revoked_token_is_rejected_immediately() {
    let server = ApacheServer::new();
    let user = &server.tokens.user;
    assert_eq!(server.get_with("/any", user).status, 200);
    assert_eq!(server.tokens.revoke(user).status, 200);
    assert_eq!(server.get_with("/any", user).status, 401);
}

/// `mod_oauth2` has one response for every token that it cannot verify.
pub(crate) fn apache_rejects_requests_while_the_token_server_is_down() {
    let mut server = ApacheServer::new();
    let user = server.tokens.user.clone();
    assert_eq!(server.get_with("/any", &user).status, 200);
    let stopped = std::mem::replace(&mut server.tokens, TokenServer::start());
    drop(stopped);
    let response = server.get_with("/any", &user);
    assert_eq!(response.status, 401);
    assert!(!response.body.contains("served"), "{}", response.body);
}
