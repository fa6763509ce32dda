// Generates and prints new keys for clients that authenticate by `private_key_jwt`: the private
// keys as PKCS #8 PEM by name, and the public keys as a JWK set for `server.mjs`.
import { generateKeyPairSync } from 'node:crypto';

const options = { privateKeyEncoding: { type: 'pkcs8', format: 'pem' } };
const pairs = {
  es256: generateKeyPairSync('ec', { ...options, namedCurve: 'P-256' }),
  rs256: generateKeyPairSync('rsa', { ...options, modulusLength: 2048 }),
};

const output = { pem: {}, jwks: { keys: [] } };
for (const [kid, { privateKey, publicKey }] of Object.entries(pairs)) {
  output.pem[kid] = privateKey;
  output.jwks.keys.push({ ...publicKey.export({ format: 'jwk' }), kid });
}
console.log(JSON.stringify(output));
