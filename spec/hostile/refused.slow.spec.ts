/** How much a peer that is always refused can add to the log and the audit log, without hiding anything. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { LogEventName } from '../../lib/events.js';
import { COPY_KIND, encodeMessage } from '../../lib/services/copy/copy-messages.js';
import { encodeStart } from '../../lib/services/exec/exec-messages.js';
import { temporaryFolder } from '../helpers/files.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';
import { freshIds } from './case.js';

/** The limit for log and audit log together, in bytes per second. */
const MAX_BYTES_PER_SECOND = 65_536;

/** Turns of each case: without a bound their lines are megabytes. */
const TURNS = 400;
const SESSIONS = 60;

const { DATA, FIN, GOAWAY, OPEN, RESET, SERVICES } = FRAME_TYPE;

/** A text that takes six times its length in a line of JSON, and even more in a line of text. */
const FAT = '\u202e'.repeat(1000);

type Flood = (path: string, count: number) => Promise<void>;

/** The number of streams opened at a time: fewer than may be unanswered. */
const BATCH = 20;

/** Opens streams to a service, sends something on each (DATA, and their ends), and waits until each is answered. */
function eachStream(service: string, answer: string, ...said: readonly Buffer[]): Flood {
  return async (path, count) => {
    const peer = await SocketPeer.established(path);
    for (let turn = 0; turn < count; turn += BATCH) {
      peer.log.take();
      const ids = freshIds(peer, BATCH);
      for (const id of ids) {
        peer.send(OPEN, id, { service, from: FAT });
        for (const bytes of said) peer.send(DATA, id, bytes);
        if (said.length > 0) peer.send(FIN, id);
        else if (answer === 'ACCEPT') peer.send(RESET, id, { code: 'cancelled', message: FAT });
      }
      for (const id of ids) await peer.seen(new RegExp(`^${answer} ${id}\\b`));
    }
    await peer.ping();
    peer.close();
  };
}

async function changeServices(path: string, count: number): Promise<void> {
  const peer = await SocketPeer.established(path);
  for (let turn = 0; turn < count; turn += 1) {
    const services = Array.from({ length: 40 }, (_, index) => `${'s'.repeat(60)}-${turn % 2}${index}`);
    peer.send(SERVICES, 0, { services });
  }
  await peer.ping();
  peer.close();
}

async function beginAndEnd(path: string, count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) {
    const peer = await SocketPeer.established(path, {});
    peer.send(GOAWAY, 0, { code: 'denied', message: FAT, last: 0 });
    await peer.drain();
    peer.close();
  }
}

const NO_MORE = { isResumed: false, hasTotals: false };
const SECRETS = Array.from({ length: 15 }, (_, index) => ({ path: `/etc/${FAT}`, name: `secret-${index}` }));
const COMMAND = encodeStart({ argv: Array<string>(15).fill(FAT), cwd: FAT });
const GET = encodeMessage(COPY_KIND.START, { direction: 'get', sources: SECRETS, ...NO_MORE });
const PUT = [
  encodeMessage(COPY_KIND.START, { direction: 'put', target: `/etc/${FAT}`, ...NO_MORE }),
  encodeMessage(COPY_KIND.PLAN, { roots: [{ name: 'x', kind: 'file' }], totals: null }),
];

/** Everything a peer can repeat that is refused or has no effect, with the event logged each time, and whether it is audited. */
const CASES: readonly [what: string, event: LogEventName, isAudited: boolean, flood: Flood][] = [
  ['streams to a service that is not offered', 'stream-refused', true, eachStream('none', 'REFUSE')],
  ['streams to a service that a rule forbids', 'stream-denied', true, eachStream('forbidden', 'REFUSE')],
  ['commands that it may not run', 'exec-refused', true, eachStream('exec', 'FIN', COMMAND)],
  ['copies of files that it may not read', 'copy-refused', true, eachStream('copy', 'FIN', GET)],
  ['copies to where it may not write', 'copy-refused', true, eachStream('copy', 'FIN', ...PUT)],
  ['storage emulators that come and go', 'storage-emulator', false, eachStream('storage', 'ACCEPT')],
  ['ever new lists of its services', 'services', false, changeServices],
  ['sessions that it begins and ends', 'session-ended', true, beginAndEnd],
];

interface Line {
  readonly atMs: number;
  readonly bytes: number;
  readonly event: string;
  /** Additional fields of the event. */
  readonly fields: Readonly<Record<string, unknown>>;
}

const parse = (line: string): Line => {
  const value = JSON.parse(line) as Record<string, unknown> & { time: string; event: string };
  const fields = (value['fields'] ?? value) as Record<string, unknown>;
  return { atMs: Date.parse(value.time), bytes: Buffer.byteLength(line) + 1, event: value.event, fields };
};

/** The most bytes of lines within one second. */
function mostInSecond(lines: readonly Line[]): number {
  const sorted = [...lines].sort((a, b) => a.atMs - b.atMs);
  let [first, bytes, most] = [0, 0, 0];
  for (const line of sorted) {
    bytes += line.bytes;
    for (let oldest = sorted[first]; oldest !== undefined && oldest.atMs <= line.atMs - 1000; oldest = sorted[first]) {
      bytes -= oldest.bytes;
      first += 1;
    }
    most = Math.max(most, bytes);
  }
  return most;
}

/** The number of events of a kind, written and only counted. */
function countOf(lines: readonly Line[], kind: string): number {
  const shown = lines.filter(({ event }) => event === kind).length;
  const told = lines.filter(({ event, fields }) => event === 'log-limited' && fields['kind'] === kind);
  return told.reduce((sum, { fields }) => sum + Number(fields['count']), shown);
}

test('at most 64 KiB a second are written about refusals, each is counted, and everything admitted is logged each time', async (t) => {
  const folder = temporaryFolder(t);
  const [path, audit, config] = [join(folder, 'channel.sock'), join(folder, 'audit.log'), join(folder, 'vproxy.json')];
  const channel = {
    ...{ address: `unix-listen:${path}`, incoming: [`forbidden:${join(folder, 'none')}`] },
    ...{ 'allow-exec': ['/usr/bin/uname'], 'allow-copy': folder, storage: { socket: join(folder, 'storage.sock') } },
  };
  const settings = { services: { forbidden: { channels: [] } }, channels: { vm1: channel } };
  writeFileSync(config, JSON.stringify({ ...settings, audit, 'log-format': 'json' }));
  // Debug lines are limited as well.
  const vproxy = spawnVproxy(t, ['--config', config, '-v']);
  await vproxy.waitForLine(/waiting for the peer/);

  let commandCount = 0;
  const runCommand = async (): Promise<void> => {
    const peer = await SocketPeer.established(path);
    peer.send(OPEN, 1, { service: 'exec' });
    peer.send(DATA, 1, encodeStart({ argv: ['/usr/bin/uname'] }));
    peer.send(FIN, 1);
    await peer.seen(/^FIN 1$/);
    peer.close();
    commandCount += 1;
  };
  for (const [, event, , flood] of CASES) {
    await flood(path, event === 'session-ended' ? SESSIONS : TURNS);
    await runCommand();
  }
  vproxy.kill('SIGTERM');
  await vproxy.exited;

  const logged = vproxy.lines.map(parse);
  const audited = readFileSync(audit, 'utf8').trimEnd().split('\n').map(parse);
  const most = mostInSecond([...logged, ...audited]);
  t.log(`${most} bytes in the worst second`);
  t.true(most <= MAX_BYTES_PER_SECOND, `${most} bytes in a second`);
  for (const [what, event, isAudited] of CASES) {
    const turns = event === 'session-ended' ? SESSIONS : TURNS;
    t.true(countOf(logged, event) >= turns, `${what}: ${countOf(logged, event)} in the log`);
    if (isAudited) t.true(countOf(audited, event) >= turns, `${what}: ${countOf(audited, event)} in the audit log`);
  }
  t.is(countOf(audited, 'copy-refused'), 2 * TURNS);
  const commands = ['exec-started', 'exec-ended'].map((kind) => audited.filter(({ event }) => event === kind).length);
  t.deepEqual(commands, [commandCount, commandCount]);
});
