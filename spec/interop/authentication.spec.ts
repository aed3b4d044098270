/** R-AUTH-2: the real program and the second implementation prove to each other that they have the same key. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { echo, localServer, readToEnd } from '../helpers/proxies.js';
import { PROXY_PROGRAM } from '../helpers/proxy-program.js';
import { serialTestWith } from '../helpers/test-with.js';
import { spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';
import { PythonPeer } from './python-peer.js';
import { connectTo, MIB } from './setup.js';

const withPython = serialTestWith('python');

/** Which keys the two sides have: each is one pair of digits, repeated. */
interface Keys {
  readonly own: readonly string[];
  readonly peer: readonly string[];
}

/** Both sides on a channel of their own. */
async function pairWithKeys(
  t: ExecutionContext,
  { own, peer }: Keys,
  options: readonly string[] = [],
): Promise<{ readonly vproxy: VproxyProcess; readonly peer: PythonPeer }> {
  const folder = temporaryFolder(t);
  const write = (side: string) => (digits: string) => {
    const path = join(folder, `${side}-${digits}.key`);
    writeFileSync(path, `${digits.repeat(32)}\n`, { mode: 0o600 });
    return path;
  };
  const target = await localServer(t, echo);
  const path = join(folder, 'channel');
  const proxies = [
    {
      channel: `unix-listen:${path}`,
      keyFiles: own.map(write('own')),
      outgoing: ['mirror:0'],
      incoming: [`target:${target.port}`],
    },
  ];
  const vproxy = spawnVproxy(t, [JSON.stringify({ proxies })], { script: PROXY_PROGRAM });
  // How long a process takes to start is no part of what the peer waits for.
  await vproxy.waitForLine(/waiting for the peer/);
  const keyOptions = peer.map(write('peer')).flatMap((file) => ['--key', file]);
  return { vproxy, peer: new PythonPeer(t, `unix-connect:${path}`, [...keyOptions, ...options]) };
}

for (const parity of ['odd', 'even'] as const) {
  withPython(`with a key in common there are streams both ways: the peer is ${parity}`, async (t) => {
    const keys = { own: ['1f', '2e', '3d'], peer: ['4c', '3d', '2e'] };
    const { vproxy, peer } = await pairWithKeys(t, keys, ['--parity', parity, '--service', 'mirror=mirror']);
    await peer.next('established');
    t.deepEqual((await peer.next('services')).services, ['target']);
    const bytes = randomBytes(MIB);
    const socket = await connectTo(t, vproxy, 'mirror');
    socket.end(bytes);
    t.is(sha256(await readToEnd(socket)), sha256(bytes));
    peer.do('open', { key: 'a', service: 'target' });
    peer.do('send', { key: 'a', count: MIB });
    peer.do('fin', { key: 'a' });
    const ended = await peer.next('stream-ended', { key: 'a' });
    t.is(ended.sentHash, ended.receivedHash);
    t.false(peer.events.some(({ event }) => event === 'session-ended' || event === 'wrong'));
  });
}

for (const [what, keys] of Object.entries({
  'the peer has no key': { own: ['1f'], peer: [] },
  'the real program has no key': { own: [], peer: ['1f'] },
  'there is no key in common': { own: ['1f', '2e'], peer: ['3d', '4c'] },
})) {
  withPython(`${what}: auth-failed at both`, async (t) => {
    const { vproxy, peer } = await pairWithKeys(t, keys);
    t.is((await peer.next('session-ended')).code, 'auth-failed');
    await vproxy.waitForLine(/ended: .*\(auth-failed\)/);
    t.false(peer.events.some(({ event }) => event === 'established'));
    t.false(vproxy.lines.some((line) => /session with/.test(line)));
  });
}

for (const [what, fault] of [
  ['another AUTH', 'other'],
  ['the AUTH that it got', 'reflect'],
  ['a frame before AUTH', 'early'],
] as const) {
  withPython(`a peer with the key that sends ${what} is refused`, async (t) => {
    const { vproxy, peer } = await pairWithKeys(t, { own: ['1f'], peer: ['1f'] }, ['--auth-fault', fault]);
    const code = fault === 'early' ? 'protocol-error' : 'auth-failed';
    t.is((await peer.next('session-ended')).code, code);
    await vproxy.waitForLine(new RegExp(`ended: .*\\(${code}\\)`));
    t.false(vproxy.lines.some((line) => /session with/.test(line)));
  });
}
