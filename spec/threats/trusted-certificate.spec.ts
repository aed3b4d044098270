/** R-AUTH-3: with a key, a certificate is worth nothing, whoever signed it, even an authority that the whole machine trusts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import test from 'ava';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { makeCertificate } from '../helpers/certificates.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { PROXY_PROGRAM } from '../helpers/proxy-program.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { CHANNEL_LISTENING, spawnVproxy } from '../helpers/vproxy-process.js';
import { splitOpening } from './middle.js';

test('a TLS server without the key is not let in by a certificate that the machine trusts', async (t) => {
  const folder = temporaryFolder(t);
  makeCertificate(folder, 'known');
  const keyFiles = [writeKeyFile(folder, 'psk.key', '1f')];
  const proxies = [{ channel: 'tcp-listen:127.0.0.1:0,tls=psk', keyFiles }];
  const env = { NODE_EXTRA_CA_CERTS: join(folder, 'known-ca.pem') };
  const vproxy = spawnVproxy(t, [JSON.stringify({ proxies })], { script: PROXY_PROGRAM, env });
  const [, port] = await vproxy.waitForLine(CHANNEL_LISTENING);

  // The lesser nonce: the process is TLS's client.
  const peer = new SocketPeer({ host: '127.0.0.1', port: Number(port) }, { isOdd: false });
  t.teardown(() => peer.close());
  const ack = await peer.otherNonce();
  const { id } = SecretKey.parse('1f'.repeat(32));
  const read = (file: string) => readFileSync(join(folder, file), 'utf8');
  let isSecured = false;
  const server = tls.createServer({ cert: read('known.pem'), key: read('known.key'), minVersion: 'TLSv1.3' }, () => {
    isSecured = true;
  });
  server.on('tlsClientError', () => undefined);
  peer.socket.removeAllListeners('data');
  let seen: Buffer = Buffer.alloc(0);
  peer.socket.on('data', (chunk: Buffer) => {
    seen = Buffer.concat([seen, chunk]);
    const behind = seen.includes('VPROXY') ? splitOpening(seen).behind : Buffer.alloc(0);
    if (behind.length === 0) return;
    peer.socket.removeAllListeners('data').pause();
    peer.socket.unshift(behind);
    server.emit('connection', peer.socket);
  });
  peer.write(peer.hello({ ack, tls: true, auth: { method: 'psk-sha256', keys: [id] } }));

  const isRefused = () => vproxy.lines.some((line) => /ended: TLS: .*\(auth-failed\)/.test(line));
  await eventually(() => isSecured || isRefused(), { what: 'the end of the handshake' });
  t.false(isSecured);
});
