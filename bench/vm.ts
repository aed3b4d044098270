/**
 * `npm run bench:vm`: a real guest under QEMU, one virtio-serial port. One stream of vproxy beside a plain relay from the
 * port to the same target, and a stream inside the process beside the raw port; in one run, rounds interleaved.
 * `--rounds N` (5), `--megabytes N` (48).
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { eventually } from '../spec/helpers/eventually.js';
import { bootGuest, type Guest, PORT_PATH } from '../spec/vm/rig/guest.js';
import { GUEST_VPROXY } from '../spec/vm/rig/initramfs.js';
import { runProgram, startProgram } from './load/program.js';
import { formatSummary, formatTable, summarize } from './table.js';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, megabytes: { type: 'string', default: '48' } },
});
const rounds = Number(values.rounds);
const bytes = Number(values.megabytes) * 1e6;

const GUEST_DIST = dirname(dirname(GUEST_VPROXY));
const PROGRAMS = [
  'bench/vm/serve.js',
  'bench/load/target.js',
  'bench/load/chunk.js',
  'bench/load/connection.js',
  'bench/load/rate.js',
  'bench/vm/guest-port.js',
];
const CHANNEL = `virtserial-open:${PORT_PATH}`;
const TARGET_PORT = '7000';

/** Puts the programs of the measurement beside the guest's vproxy. */
async function install(guest: Guest): Promise<void> {
  for (const program of PROGRAMS) {
    const source = readFileSync(fileURLToPath(new URL(`../${program}`, import.meta.url))).toString('base64');
    const path = `${GUEST_DIST}/${program}`;
    await guest.agent.output(`mkdir -p ${dirname(path)} && echo '${source}' | base64 -d > ${path}`);
  }
}

/** A program in the guest that has printed a line like `ready`; the function returned ends it. */
async function startInGuest(
  guest: Guest,
  script: string,
  args: readonly string[],
  ready: RegExp,
): Promise<() => Promise<void>> {
  const job = await guest.agent.spawn(['node', `${GUEST_DIST}/${script}`, ...args]);
  await eventually(async () => ready.test(await job.log()), { timeoutMs: 30_000, what: `${script} in the guest` });
  return async () => {
    await job.kill('KILL');
    await job.waitForEnd(10_000);
  };
}

/** One way of carrying bytes: starts both ends, gives the address for the load generator, and what stops them. */
type Contender = (
  guest: Guest,
  folder: string,
) => Promise<{ readonly address: string; readonly stop: () => Promise<void> }>;

const CONTENDERS: Readonly<Record<string, Contender>> = {
  'vproxy forward': async (guest) => {
    const stopGuest = await startInGuest(
      guest,
      'cli/vproxy.js',
      ['-c', CHANNEL, '--no-storage', '-i', `load:${TARGET_PORT}`],
      /waiting|open|session/,
    );
    const args = ['-c', `unix-connect:${guest.channelPath}`, '-o', 'load:127.0.0.1:0'];
    const near = await startProgram('cli/vproxy.js', args, /listening on/);
    return {
      address: /127\.0\.0\.1:(\d+)/.exec(near.firstLine)?.[1] ?? '',
      stop: async () => {
        await near.stop();
        await stopGuest();
      },
    };
  },
  'plain relay': async (guest) => {
    const stopGuest = await startInGuest(guest, 'bench/vm/guest-port.js', ['relay', CHANNEL, TARGET_PORT], /ready/);
    const near = await startProgram('bench/peers/relay.js', ['0', guest.channelPath]);
    return {
      address: near.firstLine,
      stop: async () => {
        await near.stop();
        await stopGuest();
      },
    };
  },
  'MuxStream in process': async (guest) => ({
    address: `mux:unix-connect:${guest.channelPath}`,
    stop: await startInGuest(guest, 'bench/vm/guest-port.js', ['mux', CHANNEL], /ready/),
  }),
  'raw port': async (guest) => ({
    address: guest.channelPath,
    stop: await startInGuest(guest, 'bench/vm/guest-port.js', ['raw', CHANNEL], /ready/),
  }),
};

const WORK = [
  { name: 'up (host to guest), MB/s', mode: 'up', amount: bytes, key: 'rate' },
  { name: 'down (guest to host), MB/s', mode: 'down', amount: bytes, key: 'rate' },
  { name: 'echo of 1 byte, p50, µs', mode: 'echo', amount: 500, key: 'p50' },
] as const;

const folder = mkdtempSync(join(tmpdir(), 'vproxy-bench-'));
const guest = await bootGuest();
try {
  await install(guest);
  await startInGuest(guest, 'bench/load/target.js', [TARGET_PORT], /\d/);
  const figures = new Map<string, number[]>();
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, start] of Object.entries(CONTENDERS)) {
      const { address, stop } = await start(guest, folder);
      // The first transfers wait for the session and for the compiler, which takes seconds under emulation.
      for (const { mode, amount } of WORK) await runProgram('bench/vm/client.js', [address, mode, '1', `${amount}`]);
      for (const { mode, amount, key } of WORK) {
        const result = await runProgram('bench/vm/client.js', [address, mode, '1', `${amount}`]);
        const id = `${name} ${mode}`;
        figures.set(id, [...(figures.get(id) ?? []), result[key] ?? Number.NaN]);
      }
      await stop();
    }
    process.stderr.write(`round ${round + 1} of ${rounds}\n`);
  }
  const summary = (name: string, mode: string) => summarize(figures.get(`${name} ${mode}`) ?? []);
  const ratio = (a: string, b: string, mode: string): string =>
    (summary(a, mode).median / summary(b, mode).median).toFixed(2);
  const names = Object.keys(CONTENDERS);
  const rows = WORK.map(({ name, mode }) => [
    name,
    ...names.map((contender) => formatSummary(summary(contender, mode))),
    ratio('vproxy forward', 'plain relay', mode),
    ratio('MuxStream in process', 'raw port', mode),
  ]);
  console.log(formatTable([['', ...names, 'forward / relay', 'MuxStream / raw'], ...rows]));
  console.log(`\nMedians (smallest–largest) of ${rounds} rounds, guest under ${guest.accelerator}.`);
} finally {
  await guest.stop();
  rmSync(folder, { recursive: true, force: true });
}
