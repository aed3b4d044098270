/** `vproxy top`: its frames, and its behaviour in a terminal; and the line of a removal that waits for streams. */
import test from 'ava';
import { readKeys } from '../../cli/ui/live.js';
import { formatSparkline, formatTopLine, renderFrame, type TopView, TrafficHistory } from '../../cli/ui/top.js';
import type { ChannelStatus, ControlStatus, StreamWithRates } from '../../lib/status/types.js';
import { echo, endsInOrder, localServer, localSocket, openEcho, steeredPair } from '../helpers/proxies.js';
import { openTerminal } from '../helpers/terminals.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { VPROXY } from '../helpers/vproxy-process.js';

const TOP = `${VPROXY} top --interval 0.2`;

/** The present, when a test asks: on a busy machine it may begin a minute after its file was loaded. */
const now = (): string => new Date().toISOString();

function channel(label: string, sentBytes = 0, changes: object = {}, resumptions = 0): ChannelStatus {
  const session = {
    ...{ peer: { name: `guest of ${label}` }, roundTripMs: 0.25, streams: 3 },
    resume: { here: false, peer: true },
  };
  const totals = { sentBytes, receivedBytes: 2 * sentBytes, resumptions };
  const state = {
    label,
    state: 'established',
    since: now(),
    detail: null,
    nextTryMs: null,
    session,
    totals,
    ...changes,
  };
  return state as unknown as ChannelStatus;
}

const DOWN = { state: 'backing-off', detail: 'refused', nextTryMs: 1500, session: null };

function status(channels: readonly ChannelStatus[]): ControlStatus {
  const process = {
    ...{ name: 'host\u001b[2J', pid: 42, uptimeMs: 7_500_000, startedAt: now() },
    ...{ memory: { residentBytes: 54_200_000 }, eventLoopDelay: { meanMs: 1.25, p99Ms: 10, maxMs: 20 } },
  };
  return { process, channels, forwards: 1, streams: 3 } as unknown as ControlStatus;
}

function stream(id: number, sendRate: number, label = 'vm1'): StreamWithRates {
  const facts = {
    channel: label,
    id,
    service: `s${id}`,
    direction: 'outgoing',
    ageMs: 1000 * id,
    sentBytes: 1_000_000,
  };
  return {
    ...facts,
    receivedBytes: 0,
    waitsFor: null,
    reached: null,
    sendRate,
    receiveRate: 0,
  } as unknown as StreamWithRates;
}

function view(changes: Partial<TopView> = {}): TopView {
  const history = new TrafficHistory();
  history.add(status([channel('vm1')]), 0);
  history.add(status([channel('vm1', 3_400_000)]), 1000);
  const facts = { status: status([channel('vm1', 3_400_000)]), streams: [], samples: history.samples, scroll: 0 };
  return { ...facts, isColored: false, isUnicode: true, ...changes };
}

const SIZE = { width: 80, height: 24 };

/** The lines of the channels, below their titles, and all lines below these. */
const channelLines = (changes: Partial<TopView>, width = 100): string[] => {
  const { lines } = renderFrame(view(changes), { ...SIZE, width });
  return lines.slice(lines.findIndex((line) => line.startsWith('CHANNEL')));
};

test('a frame has the process, the throughput, the channels, and the streams sorted by rate', (t) => {
  const streams = [stream(1, 5), stream(2, 7_000_000), stream(3, 0)];
  const { lines } = renderFrame(view({ streams }), SIZE);
  t.is(lines.length, 24);
  const text = lines.join('\n');
  t.regex(lines[0] ?? '', /^vproxy host\\x1b\[2J \(42\) {2}up 2h 05m {2}memory 54\.2 MB {2}delay 1\.25 ms, p99/);
  t.regex(lines[1] ?? '', /^sent +3\.4 MB\/s +█ peak 3\.4 MB\/s$/);
  t.regex(lines[2] ?? '', /^received +6\.8 MB\/s +█ peak 6\.8 MB\/s$/);
  t.regex(text, /\nvm1 +established +\d+s +guest of .* 0\.25 ms +3 +3\.4 MB\/s +6\.8 MB\/s\n/);
  t.regex(text, /\nvm1\/2 +s2 .* 7\.0 MB\/s [^]*\nvm1\/1 +s1 .* 5 B\/s [^]*\nvm1\/3 +s3 /);
  t.is(lines.at(-1), 'q quits');
  const colored = renderFrame(view({ streams, isColored: true }), SIZE).lines;
  t.true(colored.some((line) => line.includes('\u001b[32m')));
  const plain = colored.map((line) => line.replace(/\u001b\[\d+m/g, ''));
  t.deepEqual(plain, lines, 'colours are put around lines, and nothing else changes');
});

test('no frame is larger than its terminal', (t) => {
  const channels = Array.from({ length: 30 }, (_, index) => channel(`vm${index}`, 5, index % 2 ? DOWN : {}));
  const streams = Array.from({ length: 200 }, (_, index) => stream(index, index));
  for (const [width, height] of [
    [80, 24],
    [40, 10],
    [20, 5],
    [1, 1],
    [300, 100],
  ] as const) {
    const { lines } = renderFrame(view({ status: status(channels), streams, scroll: 7 }), { width, height });
    t.is(lines.length, height);
    for (const line of lines) t.true(line.length <= width, line);
  }
});

test('channels without a session or a link come first, with what they wait for, as do their streams', (t) => {
  const suspended = channel('vm3', 0, { state: 'suspended', detail: 'it lost its link' });
  const streams = [stream(1, 0), stream(3, 0, 'vm3')];
  for (const channels of [
    [channel('vm1', 9), channel('vm2', 0, DOWN)],
    [channel('vm1', 9), suspended],
  ]) {
    const [, first = '', second = '', ...rest] = channelLines({ status: status(channels), streams });
    t.regex(first, /^vm2 +backing-off +\d+s +refused; retrying in 1\.5 s|^vm3 +suspended +\d+s +guest of vm3 .* 3 /);
    t.regex(second, /^vm1 +established/);
    t.regex(rest.join('\n'), /\nvm1\/1 .* - *\n/);
    t.is(/\nvm3\/3 .* link *\n/.test(rest.join('\n')), channels.includes(suspended));
  }
});

test('a wide frame shows how often the session of a channel was resumed', (t) => {
  const here = { session: { ...channel('').session, resume: { here: true, peer: true } } };
  const told = status([channel('vm1', 0, here, 12), channel('vm2', 0, here), channel('vm3')]);
  const [titles = '', ...rows] = channelLines({ status: told }, 110);
  t.regex(titles, / RESUMED *$/);
  for (const [index, cell] of ['12', '0', '-'].entries()) t.regex(rows[index] ?? '', new RegExp(` ${cell}$`));
  t.false(channelLines({ status: told }, 109).join('\n').includes('RESUMED'));
  t.regex(formatTopLine(view({ status: told })), /^channels 3\/3 {2}streams 3 {2}resumed 12 {2}sent /);
});

test('scrolling ends at the last stream', (t) => {
  const streams = Array.from({ length: 50 }, (_, index) => stream(index + 1, 50 - index));
  const [first, next, last] = [0, 1, 1000].map((scroll) => renderFrame(view({ streams, scroll }), SIZE));
  const room = Number(/^1-(\d+) of 50 streams/.exec(first?.lines.at(-1) ?? '')?.[1]);
  t.regex(next?.lines.join('\n') ?? '', /WAITS +\nvm1\/2 /);
  t.is(last?.scroll, 50 - room);
  t.regex(last?.lines.join('\n') ?? '', /\nvm1\/50 /);
});

test('a sparkline shows shares of its peak, the newest at the right', (t) => {
  t.is(formatSparkline([0, 1, 4, 8], 6, 8, true), '   ▁▄█');
  t.is(formatSparkline([8, 0, 8], 2, 8, false), ' #');
  t.is(formatSparkline([1], 0, 1, true), '');
});

test('rates start at zero for a new channel with the same label', (t) => {
  const history = new TrafficHistory();
  history.add(status([channel('vm1', 1000)]), 0);
  history.add(status([channel('vm1', 3000), channel('vm2', 500)]), 2000);
  t.like(history.samples[0], { sendRate: 1250, receiveRate: 2500 });
  history.add(status([channel('vm1', 100)]), 3000);
  t.like(history.samples[1], { sendRate: 100 });
});

test('the destinations of egresses have a column, if there are any', (t) => {
  const reached = { destination: 'deb.debian.org:443', address: '192.0.2.1:443', rule: 'allow "deb.debian.org:443"' };
  const lines = (...streams: StreamWithRates[]) =>
    renderFrame(view({ streams }), { ...SIZE, width: 120 }).lines.join('\n');
  t.notRegex(lines(stream(1, 0)), /DESTINATION/);
  t.regex(lines(stream(1, 5), { ...stream(2, 0), reached }), /DESTINATION *\n.* -\n.* deb\.debian\.org:443\n/);
});

test('a key with modifiers is one key, and a sequence may come in pieces', (t) => {
  const read = (text: string) => {
    const { keys, rest } = readKeys(text);
    return [...keys, `rest ${rest}`];
  };
  t.deepEqual(read('a\u001b[1;5A\u001b[A\u001bOB\u001bd\u001b[200~'), [
    ...['a', '\u001b[1;5A', '\u001b[A', '\u001bOB', '\u001bd', '\u001b[200~', 'rest '],
  ]);
  for (const rest of ['\u001b', '\u001b[', '\u001b[1;5', '\u001bO'])
    t.deepEqual(read(`d${rest}`), ['d', `rest ${rest}`]);
});

serialTestWith('tmux')('in a terminal: a live display, keys, a new size, and a restored terminal', async (t) => {
  const target = await localServer(t, echo);
  const { here, env } = await steeredPair(t, {
    here: { outgoing: ['echo:127.0.0.1:0'] },
    peer: { incoming: [`echo:127.0.0.1:${target.port}`] },
  });
  const terminal = await openTerminal(t, `echo before; ${TOP}; echo "status $?"; cat`, env);
  const shows = (pattern: RegExp) => terminal.shows(pattern);
  await shows(/^vproxy host1 \(\d+\) {2}up .*[^]*\ndefault +established[^]*No streams\.[^]*q quits/);
  t.deepEqual(await terminal.modes(), { isAlternate: true, hasCursor: false });
  for (let count = 0; count < 30; count++) {
    localSocket(t, here.port('echo'))
      .on('error', () => undefined)
      .write('x'.repeat(100_000));
  }
  const { input } = await shows(/sent .*[▁▂▃▄▅▆▇█].*\n[^]*\ndefault\/\d+ +echo +outgoing[^]*1-\d+ of 30 streams/);
  t.is(input.split('\n').length, 24);
  await terminal.press('Down', 'j');
  await shows(/^3-\d+ of 30 streams/m);
  await terminal.press('k');
  await shows(/^2-\d+ of 30 streams/m);
  await terminal.resize(60, 14);
  await shows(/^(.*\n){13}2-\d+ of 30 streams/);
  await terminal.press('q');
  const after = await shows(/^before\nstatus 0\n/);
  t.false(after.input.includes('streams'));
  t.deepEqual(await terminal.modes(), { isAlternate: false, hasCursor: true });
});

serialTestWith('tmux')('in a terminal: if the process exits, there is one error line', async (t) => {
  const { control, env } = await steeredPair(t);
  const terminal = await openTerminal(t, `${TOP}; echo "status $?"; cat`, env);
  await terminal.shows(/default/);
  await control.server.close();
  await terminal.shows(/^vproxy: error: no process answers on [^]*\nstatus 69\n/);
  t.deepEqual(await terminal.modes(), { isAlternate: false, hasCursor: true });
});

serialTestWith('tmux')('in a terminal: a list that is watched is redrawn in place, within its size', async (t) => {
  const { env, client } = await steeredPair(t);
  const watch = `${VPROXY} forwards -o wide --watch=0.1`;
  const terminal = await openTerminal(t, `echo before; ${watch}; echo "status $?"; cat`, env);
  await terminal.shows(/^There are no forwards\.\n\n/);
  for (let count = 0; count < 30; count++) {
    await client.addForward({ direction: 'outgoing', spec: `a-service-${count}:127.0.0.1:0` });
  }
  const { input } = await terminal.shows(/^ID +CHANNEL .*\nf1 [^]*\nf23 .*\n?$/);
  const isNarrow = input.split('\n').every((line) => line.length <= 80);
  t.true(isNarrow, input);
  // The last lines are those of the list that it has read by then.
  await eventually(async () => {
    await terminal.press('G');
    return /^f7 [^]*\nf30 /.test((await terminal.screen()).join('\n'));
  });
  await terminal.press('C-c');
  await terminal.shows(/^before\nstatus 0\n/);
  t.deepEqual(await terminal.modes(), { isAlternate: false, hasCursor: true });
});

test.serial('if the output is not a terminal, it prints a line each interval', async (t) => {
  const { run } = await steeredPair(t);
  const { code, stdout, stderr } = await run('top', '--count', '2', '--interval', '0.1');
  t.deepEqual([code, stderr], [0, '']);
  const traffic = 'sent \\d+ B/s {2}received \\d+ B/s {2}memory [\\d.]+ MB {2}delay .*';
  t.regex(stdout, new RegExp(`^(\\S+Z channels 1/1 {2}streams 0 {2}resumed 0 {2}${traffic}\\n){2}$`));
});

serialTestWith('tmux')('in a terminal: removing a forward shows the streams that it waits for', async (t) => {
  const target = await localServer(t, echo);
  const { here, env, run } = await steeredPair(t, {
    here: { outgoing: ['echo:127.0.0.1:0'] },
    peer: { incoming: [`echo:127.0.0.1:${target.port}`] },
  });
  const socket = await openEcho(t, here.port('echo'));
  const terminal = await openTerminal(t, `${VPROXY} forward remove echo; echo "status $?"; cat`, env);
  await terminal.shows(/vproxy: waiting for 1 stream of f1/);
  t.regex((await run('forwards')).stdout, /\nf1 .* draining +1 +1\n/);
  t.true(await endsInOrder(socket));
  const { input } = await terminal.shows(/status 0/);
  t.false(input.includes('waiting'));
  t.is((await run('forwards')).stdout, 'There are no forwards.\n');
});
