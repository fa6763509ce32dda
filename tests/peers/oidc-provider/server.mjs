// A real authorization server for the tests of `tests/introspection_peers`.
//
//   PORT        port on loopback; 0 selects any free port (default)
//   HOST        host in the URL of the issuer (default 127.0.0.1)
//   BASE_PATH   path in the URL of the issuer, such as `/tenant` (default none)
//   TLS_CERT, TLS_KEY   PEM files; without them the server uses plain HTTP
//   TOKEN_SECONDS   lifetime of tokens in seconds (default 600)
//   CLIENT_JWKS JWK set file with the public keys of the `private_key_jwt` clients, see `keys.mjs`
//
// Prints `log <url>` and, once it is ready, `listening <issuer>`. `GET` of the log URL returns the
// requests since the last `GET`: the method, the path with the query, the scheme of the
// `Authorization` header and the status of each. With a query, it returns only the requests with
// the same query.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

import { Provider, errors } from 'oidc-provider';

const { PORT = '0', HOST = '127.0.0.1', BASE_PATH = '', TOKEN_SECONDS = '600' } = process.env;
const { TLS_CERT, TLS_KEY, CLIENT_JWKS } = process.env;

// Access tokens are opaque, except for the second resource, whose tokens are JWTs.
const API = 'https://api.example';
const JWT_API = 'https://jwt-api.example';
const SCOPE = 'read write';
// A grant type that issues a token for any user without a login.
const USER_GRANT = 'urn:example:user';

const signing = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const configuration = {
  clients: clients(),
  clientDefaults: {
    grant_types: [],
    response_types: [],
    redirect_uris: [],
    id_token_signed_response_alg: 'ES256',
  },
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
  cookies: { keys: ['unused'] },
  jwks: { keys: [{ ...signing.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }] },
  scopes: SCOPE.split(' '),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: { enabled: true, getResourceServerInfo },
  },
  ttl: { AccessToken: Number(TOKEN_SECONDS), ClientCredentials: Number(TOKEN_SECONDS) },
  extraTokenClaims: (ctx, token) => ({
    realm_access: { roles: ['operator', 'auditor'] },
    username: token.accountId && `${token.accountId} of example`,
  }),
  async findAccount(ctx, accountId) {
    return { accountId, claims: async () => ({ sub: accountId }) };
  },
};

function clients() {
  const signed = (id, alg) => ({
    client_id: id,
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: alg,
    jwks: JSON.parse(readFileSync(CLIENT_JWKS, 'utf8')),
  });
  return [
    {
      client_id: 'ci',
      client_secret: 'ci-secret',
      grant_types: ['client_credentials', USER_GRANT],
      scope: SCOPE,
    },
    { client_id: 'api', client_secret: 'api-secret' },
    // This server allows visible ASCII and spaces in credentials. These are special in a header, a
    // form or a URL.
    { client_id: 'a b+c:%2B&=/~', client_secret: 'd e+f:%25&=?"<\\>' },
    {
      client_id: 'poster',
      client_secret: 'p +:%26&=?~',
      token_endpoint_auth_method: 'client_secret_post',
    },
    ...(CLIENT_JWKS ? [signed('signer-es256', 'ES256'), signed('signer-rs256', 'RS256')] : []),
  ];
}

function getResourceServerInfo(ctx, resource) {
  if (resource !== API && resource !== JWT_API) throw new errors.InvalidTarget();
  const accessTokenFormat = resource === JWT_API ? 'jwt' : 'opaque';
  return { scope: SCOPE, audience: resource, accessTokenFormat, jwt: { sign: { alg: 'ES256' } } };
}

async function issueUserToken(ctx) {
  const { client, params } = ctx.oidc;
  const token = new ctx.oidc.provider.AccessToken({
    accountId: params.user,
    client,
    clientId: client.clientId,
    scope: params.scope,
  });
  // Binds the token to a key, by DPoP or by a client certificate.
  if (params.jkt) token.setThumbprint('jkt', params.jkt);
  if (params.x5t) token['x5t#S256'] = params.x5t;
  const access_token = await token.save();
  ctx.body = { access_token, token_type: token.tokenType, expires_in: token.expiration };
}

let log = [];
const logServer = http.createServer((request, response) => {
  const query = new URL(request.url, 'http://log').search;
  response.end(JSON.stringify(log.filter(({ path }) => path.endsWith(query))));
  log = log.filter(({ path }) => !path.endsWith(query));
});

const server = TLS_CERT
  ? https.createServer({ cert: readFileSync(TLS_CERT), key: readFileSync(TLS_KEY) })
  : http.createServer();

// The URL of the issuer contains the port, which is known after the server listens.
function serve() {
  const origin = `${TLS_CERT ? 'https' : 'http'}://${HOST}:${server.address().port}`;
  const provider = new Provider(origin + BASE_PATH, configuration);
  provider.registerGrantType(USER_GRANT, issueUserToken, ['user', 'scope', 'jkt', 'x5t']);
  const handle = provider.callback();
  server.on('request', (request, response) => {
    const { method, url, headers } = request;
    const entry = { method, path: url, scheme: headers.authorization?.split(' ')[0] ?? null };
    response.on('finish', () => log.push({ ...entry, status: response.statusCode }));
    if (!url.startsWith(`${BASE_PATH}/`)) {
      response.writeHead(404).end();
      return;
    }
    request.originalUrl = url;
    request.url = url.slice(BASE_PATH.length);
    handle(request, response);
  });
  console.log(`log http://127.0.0.1:${logServer.address().port}`);
  console.log(`listening ${origin}${BASE_PATH}`);
}

logServer.listen(0, '127.0.0.1', () => server.listen(Number(PORT), '127.0.0.1', serve));

// Exits when the parent process has ended, which may be killed without notice.
const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(), 500).unref();
