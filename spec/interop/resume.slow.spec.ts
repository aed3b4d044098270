/** R-RESUME-1 to R-RESUME-6: the real program, with `resume` on its command line, and the second implementation lose their channel, and go on. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { readToEnd } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { ENDED, ESTABLISHED, type VproxyProcess } from '../helpers/vproxy-process.js';
import type { PythonPeer } from './python-peer.js';
import { answering, connectTo, MIB, type PairOptions, pair } from './setup.js';

const withPython = serialTestWith('python');

/** As long as a transfer over many channels may take, in milliseconds. */
const LONG_MS = 60_000;
const CHANNELS = 40;
/** The most that a channel carries, both ways together. */
const MAX_CARRIED_BYTES = 600_000;
const RESUMED = /\bgoes on after \d+ ms\b/;

const CUTS = { do: 'cuts', args: { count: CHANNELS, within: MAX_CARRIED_BYTES }, leastResumptions: CHANNELS / 2 };

interface Case {
  readonly what: string;
  readonly fault: { readonly do: string; readonly args?: object; readonly leastResumptions: number };
  readonly options: PairOptions;
  readonly isKeyed?: boolean;
}

const LISTENS: PairOptions = { channelOptions: ',resume=60s' };

const CASES: readonly Case[] = [
  { what: '40 channels, each lost at any byte: the program listens', fault: CUTS, options: LISTENS },
  {
    what: '40 channels, each lost at any byte: the program dials, integrity full',
    fault: CUTS,
    options: { listens: 'peer', channelOptions: ',resume=1m,integrity=full', peer: ['--parity', 'even'] },
  },
  {
    what: '40 channels, each lost at any byte: as little memory as can be, small frames',
    fault: CUTS,
    options: {
      channelOptions: ',resume=60s,resume-memory=1MiB,frame=8192',
      peer: ['--parity', 'odd', '--resume-memory', '300000'],
    },
  },
  {
    what: 'several channels, on each of which both sides prove a key',
    fault: { do: 'cuts', args: { count: 5, within: MAX_CARRIED_BYTES }, leastResumptions: 1 },
    options: LISTENS,
    isKeyed: true,
  },
  {
    what: 'bytes that are no frame, on a channel that stays',
    fault: { do: 'garble', leastResumptions: 1 },
    options: LISTENS,
  },
  {
    what: 'a channel that one side still believes to have',
    fault: { do: 'redial', leastResumptions: 1 },
    options: LISTENS,
  },
];

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

for (const [index, { what, fault, options, isKeyed = false }] of CASES.entries()) {
  withPython(`transfers both ways are whole over ${what}`, async (t) => {
    const [there, back] = [randomBytes(4 * MIB), randomBytes(4 * MIB)];
    const target = await answering(t, back);
    const key = join(temporaryFolder(t), 'key');
    writeFileSync(key, `${'1f'.repeat(32)}\n`, { mode: 0o600 });
    const keys = isKeyed ? ['--key', key] : [];
    const { vproxy, peer } = pair(t, {
      ...options,
      forwards: ['-o', 'mirror:0', '-i', `target:${target.port}`, ...keys],
      peer: ['--resume', '60', '--seed', `${index}`, '--service', 'mirror=mirror', ...keys, ...(options.peer ?? [])],
    });
    await Promise.all([peer.next('established'), peer.next('resumable'), peer.next('services')]);
    await vproxy.waitForLine(/\bthe peer offers: /);
    let isOver = false;
    const dialling = options.listens === 'peer' ? dialsAgain(vproxy, peer, () => isOver) : Promise.resolve();

    const socket = await connectTo(t, vproxy, 'mirror');
    socket.end(there);
    peer.transfer('a', 'target', 4 * MIB);
    const { key: opened = '' } = await peer.next('opened', { service: 'mirror' });
    peer.do(fault.do, { ...fault.args });
    const [mirrored, atPeer, ended] = await Promise.all([
      readToEnd(socket),
      peer.next('fin', { key: opened }, LONG_MS),
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
    t.true(resumptions >= fault.leastResumptions, `${resumptions}`);
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

withPython('a peer that has forgotten the session ends the one that waits', async (t) => {
  const { vproxy, peer } = pair(t, { ...LISTENS, peer: ['--resume', '60'] });
  await Promise.all([peer.next('established'), peer.next('resumable')]);
  await vproxy.waitForLine(/\bthe peer offers: /);
  peer.do('forget');
  peer.do('cut');
  await peer.next('established');
  t.truthy(await vproxy.waitForLine(/ended: .*\(resume-refused\)/));
});
