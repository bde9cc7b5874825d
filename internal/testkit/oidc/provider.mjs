// An OpenID provider for tests: node provider.mjs PORT KEYS MODULES [--rotate]
// PORT may be 0. KEYS is a file with the private key set, which is made where it
// is missing; the first key signs; --rotate puts a new one before it. MODULES is the folder with node_modules.
// It prints one line of JSON, {"issuer": ...}, once it answers.
import { createRequire } from 'node:module';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [port, keysFile, modules] = process.argv.slice(2);
const require = createRequire(join(modules, 'package.json'));
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

const newKey = () => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  kid: randomUUID(), use: 'sig', alg: 'RS256',
});
if (!existsSync(keysFile)) writeFileSync(keysFile, JSON.stringify({ keys: [newKey()] }), { mode: 0o600 });
if (process.argv.includes('--rotate')) {
  const { keys } = JSON.parse(readFileSync(keysFile));
  writeFileSync(keysFile, JSON.stringify({ keys: [newKey(), ...keys] }));
}

const server = createServer();
await new Promise((resolve) => server.listen(Number(port), '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'blog', client_secret: 'a secret of the test', redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code', 'client_credentials'], response_types: ['code'],
  }],
  jwks: JSON.parse(readFileSync(keysFile)),
  cookies: { keys: ['a cookie key of the test'] },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:blog',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'read', audience: 'urn:blog', accessTokenTTL: 600, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
server.on('request', provider.callback());
console.log(JSON.stringify({ issuer }));
