// Prints keys for clients that authenticate by `private_key_jwt`: PKCS #8 PEM by name, and the
// public halves as a JWK set for `server.mjs`. New ones each time.
import { generateKeyPairSync } from 'node:crypto';

const options = { privateKeyEncoding: { type: 'pkcs8', format: 'pem' } };
const pairs = {
  es256: generateKeyPairSync('ec', { ...options, namedCurve: 'P-256' }),
  rs256: generateKeyPairSync('rsa', { ...options, modulusLength: 2048 }),
};

const answer = { pem: {}, jwks: { keys: [] } };
for (const [kid, { privateKey, publicKey }] of Object.entries(pairs)) {
  answer.pem[kid] = privateKey;
  answer.jwks.keys.push({ ...publicKey.export({ format: 'jwk' }), kid });
}
console.log(JSON.stringify(answer));
