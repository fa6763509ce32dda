// A real authorization server for the tests of `tests/introspection_peers`.
//
//   PORT        where to listen on loopback; 0 takes any free one (default)
//   HOST        the name in the issuer's URL (default 127.0.0.1)
//   BASE_PATH   a path in the issuer's URL, such as `/tenant` (default none)
//   TLS_CERT, TLS_KEY   PEM files; without them plain http
//   TOKEN_SECONDS   how long tokens live (default 600)
//   CLIENT_JWKS a file of public keys for the clients of `private_key_jwt`, see `keys.mjs`
//
// Prints `log <url>` and, once it is ready, `listening <issuer>`. `GET` of the log answers what the
// server was asked since the last time: method, path with query, scheme of the `Authorization`
// header and status of each request. With a query, only what was asked with the same one.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

import { Provider, errors } from 'oidc-provider';

const { PORT = '0', HOST = '127.0.0.1', BASE_PATH = '', TOKEN_SECONDS = '600' } = process.env;
const { TLS_CERT, TLS_KEY, CLIENT_JWKS } = process.env;

// Opaque access tokens, but for one resource that gets JWTs.
const API = 'https://api.example';
const JWT_API = 'https://jwt-api.example';
const SCOPE = 'read write';
// A user's token, made on a client's word: there is nobody to log in here.
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
    // As special as this server allows: visible ASCII and spaces.
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

async function grantToUser(ctx) {
  const { client, params } = ctx.oidc;
  const token = new ctx.oidc.provider.AccessToken({
    accountId: params.user,
    client,
    clientId: client.clientId,
    scope: params.scope,
  });
  // Bound to a key: by DPoP, or by a client certificate.
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

// The issuer names the port, so it must be known first.
function serve() {
  const origin = `${TLS_CERT ? 'https' : 'http'}://${HOST}:${server.address().port}`;
  const provider = new Provider(origin + BASE_PATH, configuration);
  provider.registerGrantType(USER_GRANT, grantToUser, ['user', 'scope', 'jkt', 'x5t']);
  const answer = provider.callback();
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
    answer(request, response);
  });
  console.log(`log http://127.0.0.1:${logServer.address().port}`);
  console.log(`listening ${origin}${BASE_PATH}`);
}

logServer.listen(0, '127.0.0.1', () => server.listen(Number(PORT), '127.0.0.1', serve));

// Whoever started this may be killed without a word.
const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(), 500).unref();
