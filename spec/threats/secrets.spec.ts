/** T18: a key is only in its file and in the memory of the process; with a key, no certificate counts (R-AUTH-3). */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { makeCertificate } from '../helpers/certificates.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';
import { PROXY_PROGRAM } from '../helpers/proxy-program.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { CHANNEL_LISTENING, ESTABLISHED, spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';
import { splitOpening } from './middle.js';

function spawnWithKey(t: ExecutionContext, channel: string, key: string, env: Record<string, string>): VproxyProcess {
  const proxies = [{ channel: `${channel},tls=psk`, keyFiles: [key] }];
  return spawnVproxy(t, [JSON.stringify({ proxies })], { script: PROXY_PROGRAM, env });
}

test('T18: the key is not in the arguments, the environment or the log of a process, nor in its bytes to a peer', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const vproxy = spawnWithKey(t, `unix-listen:${path}`, writeKeyFile(folder, 'psk.key', '1f'), { DEBUG: '*' });
  await vproxy.waitForLine(/waiting for the peer/);
  // A peer with the right key, and one with a wrong key.
  for (const digits of ['1f', '2e']) {
    const other = new TestProxy(t, `unix-connect:${path},tls=psk`, {
      keyFiles: [writeKeyFile(folder, `${digits}.key`, digits)],
    });
    await other.start();
    await other.event(digits === '1f' ? 'session-established' : 'session-ended');
    t.notRegex(JSON.stringify([other.events, other.proxy.listChannels()]), /1f1f1f1f|2e2e2e2e/);
  }
  await vproxy.waitForLine(ESTABLISHED);
  await vproxy.waitForLine(/\(auth-failed\)/);
  for (const name of ['cmdline', 'environ']) {
    t.notRegex(readFileSync(`/proc/${vproxy.pid}/${name}`, 'latin1'), /1f1f1f1f/, name);
  }
  t.notRegex(vproxy.lines.join('\n'), /1f1f1f1f|2e2e2e2e/);
});

test('a TLS server without the key is refused even with a certificate of an authority that the whole machine trusts', async (t) => {
  const folder = temporaryFolder(t);
  makeCertificate(folder, 'known');
  const env = { NODE_EXTRA_CA_CERTS: join(folder, 'known-ca.pem'), NODE_TLS_REJECT_UNAUTHORIZED: '0' };
  const vproxy = spawnWithKey(t, 'tcp-listen:127.0.0.1:0', writeKeyFile(folder, 'psk.key', '1f'), env);
  const [, port] = await vproxy.waitForLine(CHANNEL_LISTENING);

  // The lesser nonce: the process is the TLS client.
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

test('an empty file of authorities trusts nobody, not even those that the whole machine trusts', async (t) => {
  const folder = temporaryFolder(t);
  for (const name of ['own', 'known']) makeCertificate(folder, name);
  writeFileSync(join(folder, 'empty.pem'), '');
  const files = (ca: string, name: string) =>
    `tls=cert,ca=${folder}/${ca}.pem,cert=${folder}/${name}.pem,key=${folder}/${name}.key`;
  const proxies = [{ channel: `tcp-listen:127.0.0.1:0,${files('empty', 'own')}` }];
  const env = { NODE_EXTRA_CA_CERTS: join(folder, 'known-ca.pem'), NODE_TLS_REJECT_UNAUTHORIZED: '0' };
  const vproxy = spawnVproxy(t, [JSON.stringify({ proxies })], { script: PROXY_PROGRAM, env });
  const [, port] = await vproxy.waitForLine(CHANNEL_LISTENING);
  await new TestProxy(t, `tcp-connect:127.0.0.1:${port},${files('own-ca', 'known')}`).start();
  const [line] = await vproxy.waitForLine(/session established|\(auth-failed\)/);
  t.regex(line, /\(auth-failed\)/);
});
