/** R-RESUME-1 to R-RESUME-6: the real program, run with `resume`, and the second implementation survive losing their channel. */
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { ENDED, ESTABLISHED, type VproxyProcess } from '../helpers/vproxy-process.js';
import type { PythonPeer } from './python-peer.js';
import { LONG_MS, MIB, type PairOptions, transferring, withPython } from './setup.js';

const CHANNELS = 40;
/** The most that a channel carries, both ways together. */
const MAX_CARRIED_BYTES = 600_000;

interface Fault {
  readonly do: string;
  readonly args?: object;
  readonly leastResumptions: number;
}

const cuts = (count: number, leastResumptions: number): Fault => {
  return { do: 'cuts', args: { count, within: MAX_CARRIED_BYTES }, leastResumptions };
};

const MANY = `${CHANNELS} channels, each lost at any byte`;
const CUTS = cuts(CHANNELS, CHANNELS / 2);
const LISTENS: PairOptions = { channelOptions: ',resume=60s' };
const DIALS: PairOptions = { listens: 'peer', channelOptions: ',resume=1m,integrity=full', peer: ['--parity', 'even'] };
const NARROW: PairOptions = {
  channelOptions: ',resume=60s,resume-memory=1MiB,frame=8192',
  peer: ['--parity', 'odd', '--resume-memory', '300000'],
};

const CASES: readonly [what: string, fault: Fault, options: PairOptions, isKeyed?: boolean][] = [
  [`${MANY}: the program listens`, CUTS, LISTENS],
  [`${MANY}: the program dials, integrity full`, CUTS, DIALS],
  [`${MANY}: as little memory as can be, small frames`, CUTS, NARROW],
  ['several channels, on each of which both sides prove a key', cuts(5, 1), LISTENS, true],
  ['bytes that are not a frame, on a channel that stays open', { do: 'garble', leastResumptions: 1 }, LISTENS],
  ['a channel that one side still considers open', { do: 'redial', leastResumptions: 1 }, LISTENS],
];

/** If the program dials, it is made to retry whenever the peer has lost a channel. */
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

for (const [index, [what, fault, options, isKeyed = false]] of CASES.entries()) {
  withPython(`transfers both ways are complete over ${what}`, async (t) => {
    const keys = isKeyed ? ['--key', writeKeyFile(temporaryFolder(t), 'key', '1f')] : [];
    const { vproxy, peer, transfer } = await transferring(t, 4 * MIB, {
      ...options,
      forwards: keys,
      peer: ['--resume', '60', '--seed', `${index}`, ...keys, ...(options.peer ?? [])],
    });
    await Promise.all([peer.next('established'), peer.next('resumable'), peer.next('services')]);
    await vproxy.waitForLine(/\bthe peer offers: /);
    let isOver = false;
    const dialling = options.listens === 'peer' ? dialsAgain(vproxy, peer, () => isOver) : Promise.resolve();
    await transfer(() => peer.do(fault.do, { ...fault.args }));
    isOver = true;
    await dialling;

    const names = peer.events.map(({ event }) => event);
    const resumptions = names.filter((name) => name === 'resumed').length;
    t.true(resumptions >= fault.leastResumptions, `${resumptions}`);
    t.is(names.filter((name) => name === 'established').length, 1);
    t.true(peer.isUndisturbed, names.join());
    const lines = (pattern: RegExp) => vproxy.lines.filter((line) => pattern.test(line)).length;
    t.deepEqual([lines(ESTABLISHED), lines(ENDED)], [1, 0]);
    t.true(lines(/\bresumed after \d+ ms\b/) > 0);
  });
}
