"""A real authorization server for the tests of `tests/introspection_peers`.

    PORT           port on loopback; 0 selects any free port (default)
    DATABASE       SQLite file for clients and tokens
    TLS_CERT, TLS_KEY   PEM files; without them the server uses plain HTTP
    TOKEN_SECONDS  lifetime of tokens in seconds (default 600)

Prints `log <url>` and, once it is ready, `listening <issuer>`. `GET` of the log URL returns the
requests since the last `GET`: the method, the path with the query, the scheme of the
`Authorization` header and the status of each. With a query, it returns only the requests with the
same query.
"""

import json
import os
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import django
from django.conf import settings
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

APPS = ["auth", "contenttypes", "oauth2_provider"]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["DATABASE"],
            "OPTIONS": {"timeout": 20},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "oauth2_provider",
    ],
    # Creates the tables directly. Running the migrations takes seconds.
    MIGRATION_MODULES={app: None for app in APPS},
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "", "write": "", "introspection": ""},
        "ACCESS_TOKEN_EXPIRE_SECONDS": int(os.environ.get("TOKEN_SECONDS", "600")),
    },
    # The secrets are public. The default hasher takes half a second for each request.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="unused",
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.models import Application  # noqa: E402

urlpatterns = [path("", include("oauth2_provider.urls", namespace="oauth2_provider"))]

CLIENTS = {
    "ci": "ci-secret",
    "api": "api-secret",
    # Each character is special in a header, a form or a URL.
    "a b+c:%2B&=/~": 'd e+f:%25&=?"<\\>',
    "poster": "p +:%26&=?~",
}


def create_clients():
    for client_id, secret in CLIENTS.items():
        Application.objects.create(
            client_id=client_id,
            client_secret=secret,
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
        )


class Log:
    """A WSGI middleware that logs each request."""

    def __init__(self, application):
        self.application = application
        self.requests = []
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        query = environ["QUERY_STRING"]
        entry = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"] + (f"?{query}" if query else ""),
            "scheme": environ.get("HTTP_AUTHORIZATION", "").split(" ")[0] or None,
        }

        def start(status, headers, *rest):
            with self.lock:
                self.requests.append({**entry, "status": int(status.split(" ")[0])})
            return start_response(status, headers, *rest)

        return self.application(environ, start)

    def take(self, query):
        with self.lock:
            taken = [entry for entry in self.requests if entry["path"].endswith(query)]
            self.requests = [entry for entry in self.requests if entry not in taken]
        return json.dumps(taken).encode()


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *args):
        pass


class Server(ThreadedWSGIServer):
    daemon_threads = True

    def handle_error(self, *args):
        """Ignores clients that disconnect or reject the certificate."""


def log_server(log):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            _, mark, query = self.path.partition("?")
            self.wfile.write(log.take(mark + query))

        def log_message(self, *args):
            pass

    return HTTPServer(("127.0.0.1", 0), Handler)


def exit_with(parent):
    """Exits when the parent process has ended, which may be killed without notice."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main():
    threading.Thread(target=exit_with, args=[os.getppid()], daemon=True).start()
    call_command("migrate", run_syncdb=True, verbosity=0)
    create_clients()
    log = Log(get_wsgi_application())
    server = Server(("127.0.0.1", int(os.environ.get("PORT", "0"))), QuietHandler)
    server.set_app(log)
    scheme = "http"
    if "TLS_CERT" in os.environ:
        scheme = "https"
        server.base_environ["HTTPS"] = "on"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])
        # The thread of each connection does the handshake.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    log_endpoint = log_server(log)
    threading.Thread(target=log_endpoint.serve_forever, daemon=True).start()
    print(f"log http://127.0.0.1:{log_endpoint.server_port}", flush=True)
    print(f"listening {scheme}://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


main()
