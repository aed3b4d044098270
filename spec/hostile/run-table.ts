/** Runs tables of cases, each against its own process, which takes the rows one after another and must survive them all. */
import test, { type ExecutionContext } from 'ava';
import { ERROR_CODES } from '../../lib/errors.js';
import { peakBytes, resetPeak } from '../helpers/measures.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { ESTABLISHED } from '../helpers/vproxy-process.js';
import { FLOOD_MEMORY_BYTES, type HostileCase } from './case.js';
import { startTarget, type TargetProcess, type Teardown } from './target-process.js';

/** Defines a test for each case of each table. */
export const runTables = (...tables: readonly (readonly HostileCase[])[]): void => runTablesAt(startTarget, ...tables);

/** The same with processes that are started otherwise. */
export function runTablesAt(
  start: (t: Teardown) => Promise<TargetProcess>,
  ...tables: readonly (readonly HostileCase[])[]
): void {
  const undo: (() => unknown)[] = [];
  let targets: readonly TargetProcess[] = [];

  test.before(async () => {
    const shared = { teardown: (act: () => unknown) => void undo.push(act) };
    targets = await Promise.all(tables.map(() => start(shared)));
  });

  test.after.always('every process has survived all of its cases', async (t) => {
    for (const { vproxy } of targets) t.is(await Promise.race([vproxy.exited, Promise.resolve('alive')]), 'alive');
    for (const act of undo.reverse()) await act();
  });

  for (const [index, cases] of tables.entries()) {
    let last: Promise<unknown> = Promise.resolve();
    for (const hostile of cases) {
      test(`a peer sends ${hostile.what}: ${hostile.code ?? 'nothing comes of it'}`, async (t) => {
        const before = last;
        const run = before.then(() => runCase(t, targets[index] as TargetProcess, hostile));
        last = run.catch(() => undefined);
        await run;
      });
    }
  }
}

/** The codes with which a side leaves without a GOAWAY (R-CODE-3), and those with which a connection ends. */
const SILENT: readonly string[] = ['peer-restarted', 'desync', 'channel-closed'];

/** Misbehaves, then behaves, and checks all visible effects: on the same connection, unless it has closed. */
async function runCase(t: ExecutionContext, target: TargetProcess, hostile: HostileCase): Promise<void> {
  const { vproxy, path } = target;
  const { code, isOpening = false, memoryBytes = FLOOD_MEMORY_BYTES } = hostile;
  const isEnd = code !== null && ERROR_CODES[code].scope !== 'stream';
  const from = vproxy.lines.length;
  const peer = isOpening ? new SocketPeer({ path }, hostile.peer) : await SocketPeer.established(path, hostile.peer);
  t.teardown(() => peer.close());
  resetPeak(vproxy.pid);

  await hostile.act(peer, target);
  peer.isReading = true;
  if (isEnd) {
    const [line] = await vproxy.waitForLine(new RegExp(`session on .* ended: .*\\(${code}\\)$`), { from });
    if (hostile.says !== undefined) t.regex(line, hostile.says);
    if (hostile.isTold ?? !SILENT.includes(code)) await peer.seen(new RegExp(`^GOAWAY 0 ${code}$`));
    else t.deepEqual(peer.goawayCodes(), []);
  } else if (code !== null) {
    await peer.seen(new RegExp(`^(?:REFUSE|RESET) \\d+ ${code}$`));
  }
  for (const other of hostile.alsoLogged ?? []) await vproxy.waitForLine(new RegExp(`\\(${other}\\)`), { from });
  if (!isEnd && !isOpening) await peer.ping();
  const grownBytes = peakBytes(vproxy.pid) - target.idleBytes;
  const figures = `${mebi(peer.socket.bytesWritten)} written, at most ${mebi(grownBytes)} above ${mebi(target.idleBytes)}`;
  t.log(figures);
  t.true(grownBytes < memoryBytes, figures);

  const good = peer.isClosed ? await SocketPeer.established(path) : peer;
  t.teardown(() => good.close());
  if (good === peer && (isEnd || isOpening)) {
    peer.renew();
    await peer.establish();
  }
  await good.echo();

  t.is(peer.fault, null);
  const expected = hostile.sessionCount ?? (isEnd ? 2 : 1);
  const logged = (pattern: RegExp): string[] => vproxy.lines.slice(from).filter((line) => pattern.test(line));
  // The log does not come through the channel: late lines must not be mistaken for those of the next case.
  const what = `session ${expected} in the log`;
  await eventually(() => logged(ESTABLISHED).length >= expected, { intervalMs: 2, what });
  t.is(logged(ESTABLISHED).length, expected, vproxy.lines.slice(from).join('\n'));
  t.deepEqual(logged(/internal: |^\s+at /), []);
  const closings = () => logged(/ended: .*\(channel-closed\)$/).length;
  const before = closings();
  good.close();
  await eventually(() => closings() > before, { intervalMs: 2, what: 'the end of the last session' });
}

const mebi = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
