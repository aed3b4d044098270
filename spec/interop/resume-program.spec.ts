/** R-RESUME-1 to R-RESUME-6: the real program, with `resume` on its command line, and the second implementation lose their channel, and go on. */
import { randomBytes } from 'node:crypto';
import { sha256 } from '../helpers/files.js';
import { readToEnd } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { ENDED, ESTABLISHED, type VproxyProcess } from '../helpers/vproxy-process.js';
import type { PythonPeer } from './python-peer.js';
import { answering, connectTo, MIB, type PairOptions, pair } from './setup.js';

const withPython = serialTestWith('python');

/** As long as a transfer over many channels may take, in milliseconds. */
const LONG_MS = 40_000;
const CHANNELS = 40;
/** The most that a channel carries, both ways together. */
const MAX_CARRIED_BYTES = 600_000;
const RESUMED = /\bgoes on after \d+ ms\b/;

interface Case {
  readonly what: string;
  readonly options: PairOptions;
}

/** Where the program dials, it is told to try again whenever the peer has lost a channel. */
async function dialsAgain(vproxy: VproxyProcess, peer: PythonPeer, isOver: () => boolean): Promise<void> {
  const lost = () => peer.events.filter(({ event }) => event === 'suspended').length;
  const back = () => peer.events.filter(({ event }) => event === 'resumed').length;
  await eventually(
    () => {
      if (lost() > back()) vproxy.kill('SIGHUP');
      return isOver();
    },
    { timeoutMs: LONG_MS, intervalMs: 50 },
  );
}

const CASES: readonly Case[] = [
  { what: 'the program listens', options: { listens: 'vproxy', channelOptions: ',resume=60s' } },
  {
    what: 'the program dials, integrity full',
    options: { listens: 'peer', channelOptions: ',resume=1m,integrity=full', peer: ['--parity', 'even'] },
  },
  {
    what: 'as little memory as can be, small frames',
    options: {
      channelOptions: ',resume=60s,resume-memory=1MiB,frame=8192',
      peer: ['--parity', 'odd', '--resume-memory', '300000'],
    },
  },
];

for (const [index, { what, options }] of CASES.entries()) {
  withPython(`transfers both ways are whole over ${CHANNELS} channels, each lost at any byte: ${what}`, async (t) => {
    const seed = index + 1;
    const [there, back] = [randomBytes(4 * MIB), randomBytes(4 * MIB)];
    const target = await answering(t, back);
    const { vproxy, peer } = pair(t, {
      ...options,
      forwards: ['-o', 'mirror:0', '-i', `target:${target.port}`],
      peer: ['--resume', '60', '--seed', `${seed}`, '--service', 'mirror=mirror', ...(options.peer ?? [])],
    });
    await Promise.all([peer.next('established'), peer.next('resumable'), peer.next('services')]);
    await vproxy.waitForLine(/\bthe peer offers: /);
    peer.do('cuts', { count: CHANNELS, within: MAX_CARRIED_BYTES });
    let isOver = false;
    const dialling = options.listens === 'peer' ? dialsAgain(vproxy, peer, () => isOver) : Promise.resolve();

    const socket = await connectTo(t, vproxy, 'mirror');
    socket.end(there);
    peer.do('open', { key: 'a', service: 'target' });
    peer.do('send', { key: 'a', count: 4 * MIB });
    peer.do('fin', { key: 'a' });
    const { key = '' } = await peer.next('opened', { service: 'mirror' });
    const [mirrored, atPeer, ended] = await Promise.all([
      readToEnd(socket),
      peer.next('fin', { key }, LONG_MS),
      peer.next('stream-ended', { key: 'a' }, LONG_MS),
    ]);
    isOver = true;
    await dialling;
    t.is(sha256(mirrored), sha256(there));
    t.is(atPeer.receivedHash, sha256(there));
    t.is(ended.code, null);
    t.is(ended.receivedHash, sha256(back));
    t.is(ended.sentHash, sha256(await target.got));

    const names = peer.events.map(({ event }) => event);
    const resumptions = names.filter((name) => name === 'resumed').length;
    t.true(resumptions > CHANNELS / 2, `${resumptions}`);
    t.is(names.filter((name) => name === 'established').length, 1);
    t.false(names.includes('session-ended') || names.includes('wrong'), names.join());
    const lines = (pattern: RegExp) => vproxy.lines.filter((line) => pattern.test(line)).length;
    t.deepEqual([lines(ESTABLISHED), lines(ENDED)], [1, 0]);
    t.true(lines(RESUMED) > 0);
  });
}

withPython('without `resume` on its command line the program ends the session with its channel', async (t) => {
  const { vproxy, peer } = pair(t, { forwards: [], peer: ['--resume', '60'] });
  await peer.next('established');
  peer.do('cut');
  t.is((await peer.next('session-ended')).code, 'channel-closed');
  await vproxy.waitForLine(ENDED);
  await peer.next('established');
  t.false(peer.events.some(({ event }) => event === 'resumable' || event === 'suspended'));
});
