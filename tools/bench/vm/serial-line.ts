/** A keystroke beside a bulk stream on simulated serial lines: QEMU does not enforce the speed of its own. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { parseChannel } from '../../../lib/channel/address/address.js';
import { joinBySlowLine } from '../../../spec/helpers/relays.js';
import type { LeadRow } from '../documents/tables.js';
import { type Connection, closeAll, connectSocket, whileOpen } from '../load/connection.js';
import { percentile } from '../load/echo.js';
import { HeldConnections } from '../load/held.js';
import { startProgram } from '../load/program.js';
import { findFreePort } from '../process/free-port.js';
import type { ResultRow } from '../results.js';
import type { Outcomes } from '../work/work.js';
import { VPROXY_PROGRAM } from './guest-programs.js';

/** Speeds of the line. */
export const BAUDS = [9600, 19_200, 38_400, 57_600, 115_200] as const;
/** The bits of a byte on the line, with a start bit and a stop bit. */
const BITS_OF_BYTE = 10;
/** The number of keystrokes, and the maximum time to type them. */
const KEYS_ALONE = 20;
const KEYS_BESIDE = 20;
const TYPING_MS = 20_000;
const SESSION_TIMEOUT_MS = 30_000;

export const serialWork = (baud: number): string => `serial-${baud}`;

export function serialRows(baud: number): ResultRow[] {
  const work = serialWork(baud);
  return [
    { work, key: 'alone', title: `${baud.toLocaleString('en')} baud: keystroke alone, p50`, unit: 'ms' },
    { work, key: 'p50', title: '  next to 1 bulk stream down, p50', unit: 'ms' },
    { work, key: 'most', title: '  longest', unit: 'ms' },
    { work, key: 'bulk', title: '  bulk rate meanwhile', unit: '% of the line' },
  ];
}

/** The delay that a user notices while typing, on each line. */
export const SERIAL_LEAD_ROWS: readonly LeadRow[] = BAUDS.map((baud) => ({
  title: `${baud.toLocaleString('en')} baud: keystroke next to 1 bulk stream down, p50, ms`,
  work: serialWork(baud),
  key: 'p50',
}));

/** The compared limits of bytes in flight: that of `tty-open`, and the smallest one. */
export const SERIAL_VARIANTS = [
  { id: 'vproxy-serial', title: 'as tty-open', options: '' },
  { id: 'vproxy-serial-1024', title: 'in-flight=1024', options: ',in-flight=1024' },
] as const;

export type SerialVariant = (typeof SERIAL_VARIANTS)[number];

/** Measures on a new line, between two vproxy processes. */
export async function measureSerial(baud: number, variant: SerialVariant, folder: string): Promise<Outcomes> {
  const stops: (() => unknown)[] = [];
  try {
    return await measureWith(baud, variant, mkdtempSync(join(folder, `${serialWork(baud)}-`)), stops);
  } finally {
    for (const stop of stops.reverse()) await stop();
  }
}

async function measureWith(
  baud: number,
  variant: SerialVariant,
  folder: string,
  stops: (() => unknown)[],
): Promise<Outcomes> {
  const { frameBytes, inFlightBytes } = parseChannel('tty-open:/dev/ttyS1').traits;
  const options = `,frame=${frameBytes}${variant.options || `,in-flight=${inFlightBytes}`}`;
  const [one, other] = [join(folder, 'host'), join(folder, 'guest')];
  const start = async (script: string, args: readonly string[], line: RegExp): Promise<string> => {
    const program = await startProgram(script, args, line);
    stops.push(() => program.stop());
    return program.firstLine;
  };
  const channel = (path: string): string => `unix-listen:${path}${options}`;
  const target = await start('tools/bench/load/target.js', [], /\d/);
  const far = ['-c', channel(other), '--no-storage', '-i', `load:127.0.0.1:${target}`];
  const port = await findFreePort();
  const near = ['-c', channel(one), '-o', `load:127.0.0.1:${port}`];
  // The line can be connected only when both listen for their channel.
  for (const args of [far, near]) await start(VPROXY_PROGRAM, ['--no-control', ...args], /waiting for the peer/);
  const clock = joinBySlowLine({ teardown: (stop) => void stops.push(stop) }, one, other, baud / BITS_OF_BYTE);

  const bulk = new HeldConnections();
  stops.push(() => bulk.release());
  const keys = await connectSocket(port);
  stops.push(() => closeAll([keys]));
  keys.stream.write('echo\n');
  // The first one waits for the session.
  await typeKeys(keys, clock, 1, SESSION_TIMEOUT_MS);
  const alone = await typeKeys(keys, clock, KEYS_ALONE, TYPING_MS);
  await bulk.startBulk('down', 1, connectSocket.bind(null, port));
  await typeKeys(keys, clock, 2, SESSION_TIMEOUT_MS);
  const [beganMs, beganBytes] = [clock.timeMs(), bulk.bulkBytes];
  const beside = await typeKeys(keys, clock, KEYS_BESIDE, TYPING_MS);
  const bytesPerMs = (bulk.bulkBytes - beganBytes) / (clock.timeMs() - beganMs);
  return {
    alone: percentile(alone, 0.5),
    p50: percentile(beside, 0.5),
    most: beside.at(-1) ?? Number.NaN,
    bulk: (100 * bytesPerMs * 1000 * BITS_OF_BYTE) / baud,
  };
}

/** Types keys one by one, each when the previous one is back; resolves with sorted milliseconds of the line's time. */
async function typeKeys(
  connection: Connection,
  clock: { timeMs(): number },
  count: number,
  forMs: number,
): Promise<number[]> {
  const times: number[] = [];
  const deadline = performance.now() + forMs;
  while (times.length < count && performance.now() < deadline) {
    const beganMs = clock.timeMs();
    const back = new Promise<void>((resolve) => {
      connection.onBytes = () => resolve();
    });
    connection.stream.write('k');
    await whileOpen([connection], back);
    times.push(clock.timeMs() - beganMs);
  }
  return times.sort((a, b) => a - b);
}
