/** The programs of a measurement in a guest. */
import { readFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually } from '../../../spec/helpers/time.js';
import { type Guest, PORT_PATH } from '../../../spec/vm/rig/guest.js';
import { GUEST_VPROXY } from '../../../spec/vm/rig/initramfs.js';

/** The guest's end of the channel. */
export const GUEST_CHANNEL = `virtserial-open:${PORT_PATH}`;
/** Where the target listens in the guest. */
export const TARGET_PORT = '7000';

const GUEST_DIST = dirname(dirname(GUEST_VPROXY));
/** vproxy itself, below `dist` on both sides. */
export const VPROXY_PROGRAM = relative(GUEST_DIST, GUEST_VPROXY);
const PROGRAMS = [
  'tools/bench/vm/serve.js',
  'tools/bench/load/target.js',
  'tools/bench/load/chunk.js',
  'tools/bench/load/connection.js',
  'tools/bench/load/rate.js',
  'tools/bench/vm/guest-port.js',
];
const START_TIMEOUT_MS = 30_000;
const END_TIMEOUT_MS = 10_000;

/** Copies them beside the guest's vproxy, and starts the target of every contender. */
export async function installInGuest(guest: Guest): Promise<void> {
  for (const program of PROGRAMS) {
    const source = readFileSync(fileURLToPath(new URL(`../../../${program}`, import.meta.url))).toString('base64');
    const path = `${GUEST_DIST}/${program}`;
    await guest.agent.output(`mkdir -p ${dirname(path)} && echo '${source}' | base64 -d > ${path}`);
  }
  await startInGuest(guest, 'tools/bench/load/target.js', [TARGET_PORT], /\d/);
}

/** Starts one by Node, and waits for a line that matches `ready`. The returned function stops it. */
export const startInGuest = (
  guest: Guest,
  script: string,
  args: readonly string[],
  ready: RegExp,
): Promise<() => Promise<void>> => spawnInGuest(guest, ['node', `${GUEST_DIST}/${script}`, ...args], ready);

/** The same for any program. */
export async function spawnInGuest(
  guest: Guest,
  words: readonly string[],
  ready: RegExp,
): Promise<() => Promise<void>> {
  const what = words.slice(0, 2).join(' ');
  const job = await guest.agent.spawn(words);
  const stop = async (): Promise<void> => {
    await job.kill('KILL');
    await job.waitForEnd(END_TIMEOUT_MS);
  };
  const options = { timeoutMs: START_TIMEOUT_MS, what: `${what} in the guest` };
  try {
    await eventually(async () => ready.test(await job.log()), options);
  } catch (error) {
    const lastLine = (await job.log()).trimEnd().split('\n').at(-1) ?? '';
    // If left running, it would keep the port.
    await stop().catch(() => undefined);
    throw new Error(`${what} in the guest is not ready: ${lastLine}`, { cause: error });
  }
  return stop;
}
