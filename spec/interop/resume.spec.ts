/** R-RESUME-1 to R-RESUME-6: the library and the second implementation lose their channel, and go on without a byte lost or repeated. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { ExecutionContext } from 'ava';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually, within } from '../helpers/time.js';
import { LibrarySide, type LibrarySideOptions } from './library-side.js';
import { PythonPeer } from './python-peer.js';
import { MIB } from './setup.js';

const withPython = serialTestWith('python');

/** As long as a transfer over many channels may take, in milliseconds. */
const LONG_MS = 40_000;

interface Sides {
  readonly side: LibrarySide;
  readonly peer: PythonPeer;
  readonly path: string;
}

/** Both sides on a channel, with a session that can be resumed. */
async function sides(
  t: ExecutionContext,
  args: readonly string[] = [],
  options: LibrarySideOptions = {},
): Promise<Sides> {
  const path = join(temporaryFolder(t), 'channel');
  const side = new LibrarySide(t, path, options);
  const peer = peerOn(t, path, args);
  await peer.next('established');
  await peer.next('resumable');
  await eventually(() => side.sessions[0]?.secret, { what: 'the SECRET of the peer' });
  return { side, peer, path };
}

const peerOn = (t: ExecutionContext, path: string, args: readonly string[] = []): PythonPeer =>
  new PythonPeer(t, `unix-connect:${path}`, [
    '--resume',
    '60',
    '--service',
    'echo=echo',
    '--service',
    'mute=mute',
    ...args,
  ]);

/** Sends bytes to the peer's echo, and as many from the peer to this side's; `during` is called when some of both are back. */
async function echoBothWays(
  t: ExecutionContext,
  { side, peer }: Sides,
  size: number,
  during: () => void = () => undefined,
): Promise<void> {
  const bytes = randomBytes(size);
  const stream = side.open('echo');
  stream.end(bytes);
  const echoed = buffer(stream);
  peer.do('open', { key: 'a', service: 'echo' });
  peer.do('send', { key: 'a', count: size });
  peer.do('fin', { key: 'a' });
  await peer.next('accepted', { key: 'a' });
  await eventually(() => stream.receivedBytes > 0 && side.session.counters.receivedBytes > size / 8, { intervalMs: 1 });
  during();
  const ended = await peer.next('stream-ended', { key: 'a' }, LONG_MS);
  t.is(ended.code, null);
  t.is(ended.received, size);
  t.is(ended.receivedHash, ended.sentHash);
  t.is(sha256(await within(LONG_MS, 'the echo', echoed)), sha256(bytes));
}

/** The session is the one that there was. */
function wentOn(t: ExecutionContext, { side, peer }: Sides): void {
  t.is(side.sessions.length, 1);
  t.deepEqual(side.endings, []);
  const names = peer.events.map(({ event }) => event);
  t.false(names.includes('session-ended') || names.includes('wrong'), names.join());
  t.is(names.filter((name) => name === 'established').length, 1);
}

for (const { who, parity, integrity } of [
  { who: 'the peer', parity: 'odd', integrity: 'frame' },
  { who: 'this side', parity: 'even', integrity: 'frame' },
  { who: 'the peer', parity: 'even', integrity: 'full' },
  { who: 'this side', parity: 'odd', integrity: 'full' },
] as const) {
  withPython(
    `${who} loses the channel in the middle of data both ways; the peer is ${parity}, ${integrity}`,
    async (t) => {
      const both = await sides(t, ['--parity', parity, '--integrity', integrity]);
      await echoBothWays(t, both, 8 * MIB, () => {
        if (who === 'the peer') both.peer.do('cut');
        else both.side.cut();
      });
      await both.peer.next('suspended');
      await both.peer.next('resumed');
      t.true(both.side.resumptions >= 1);
      wentOn(t, both);
    },
  );
}

for (const [seed, args, options] of [
  [1, [], {}],
  [2, ['--parity', 'even', '--integrity', 'full'], {}],
  [3, ['--parity', 'odd', '--resume-memory', '300000'], { memoryBytes: 300_000 }],
  [
    4,
    ['--limits', '{"frame":4096,"inFlight":20000,"streamCredit":5000}'],
    { settings: { limits: { ...DEFAULT_LIMITS, frame: 4096 } } },
  ],
] as const) {
  withPython(`40 channels are lost one after another, each at any byte (${seed})`, async (t) => {
    const limits = { ...DEFAULT_LIMITS, frame: 8192 };
    const both = await sides(t, ['--seed', `${seed}`, ...args], { settings: { limits }, ...options });
    both.peer.do('cuts', { count: 40, within: 200_000 });
    await echoBothWays(t, both, 4 * MIB);
    t.true(both.side.resumptions > 20, `${both.side.resumptions}`);
    wentOn(t, both);
  });
}

withPython('bytes that are no frame, on a channel that stays: both sides open it again, and go on', async (t) => {
  const both = await sides(t);
  const { side, peer } = both;
  const { connections } = side;
  await echoBothWays(t, both, 8 * MIB, () => peer.do('garble'));
  await peer.next('suspended');
  await peer.next('resumed');
  t.is(side.resumptions, 1);
  t.is(side.connections, connections);
  wentOn(t, both);
});

withPython('where a key is demanded both sides prove it again, on each channel', async (t) => {
  const file = join(temporaryFolder(t), 'key');
  const text = `${'1f'.repeat(32)}\n`;
  writeFileSync(file, text, { mode: 0o600 });
  const keys = [SecretKey.parse(text)];
  const both = await sides(t, ['--key', file], { settings: { keys: () => keys } });
  both.peer.do('cuts', { count: 5, within: 300_000 });
  await echoBothWays(t, both, 4 * MIB);
  t.true(both.side.resumptions > 0);
  wentOn(t, both);
});

withPython('what is opened, ended and reset while there is no channel comes once', async (t) => {
  const both = await sides(t);
  const { side, peer } = both;
  const open = side.open('mute');
  await peer.next('opened', { service: 'mute' });
  side.isRefusing = true;
  side.cut();
  await peer.next('suspended');
  await eventually(() => side.session.isSuspended);
  const reset = side.open('echo');
  reset.destroy();
  open.end('the last words');
  peer.do('open', { key: 'a', service: 'echo' });
  peer.do('send', { key: 'a', count: 1000 });
  peer.do('fin', { key: 'a' });
  side.isRefusing = false;
  const ended = await peer.next('stream-ended', { key: 'a' });
  t.is(ended.receivedHash, ended.sentHash);
  t.is((await peer.next('fin')).received, 'the last words'.length);
  await peer.next('opened', { service: 'echo' });
  wentOn(t, both);
  t.is(peer.events.filter(({ event }) => event === 'opened').length, 2);
});

withPython('a side that still believes to have a channel gives it up for the other one', async (t) => {
  const both = await sides(t);
  await echoBothWays(t, both, 4 * MIB, () => both.peer.do('redial'));
  await both.peer.next('resumed');
  t.is(both.side.resumptions, 1);
  wentOn(t, both);
});

withPython('a session that no other channel comes for expires at both sides, and another one follows', async (t) => {
  const { side, peer } = await sides(t, ['--resume', '0.3'], { resumeMs: 300 });
  side.isRefusing = true;
  side.cut();
  t.is((await peer.next('session-ended')).code, 'resume-expired');
  await eventually(() => side.endings.length > 0);
  t.deepEqual(side.endings, ['resume-expired']);
  side.isRefusing = false;
  await peer.next('established');
});

withPython(
  'a peer that has forgotten the session, and another process in its place, end the one that waits',
  async (t) => {
    const { side, peer, path } = await sides(t);
    peer.do('forget');
    peer.do('cut');
    await peer.next('established');
    await eventually(() => side.sessions.length === 2);
    t.deepEqual(side.endings, ['resume-refused']);
    await eventually(() => side.session.secret);
    await peer.kill();
    const other = peerOn(t, path);
    await other.next('established');
    await eventually(() => side.sessions.length === 3);
    t.deepEqual(side.endings, ['resume-refused', 'peer-restarted']);
  },
);

withPython('a side that comes back as another process ends the session that waits at the peer', async (t) => {
  const { side, peer, path } = await sides(t);
  await side.close();
  await peer.next('suspended');
  new LibrarySide(t, path);
  t.is((await peer.next('session-ended')).code, 'peer-restarted');
  await peer.next('established');
});
