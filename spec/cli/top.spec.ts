/** `vproxy top`: its screens, and how it behaves in a terminal. */
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { formatSparkline, formatTopLine, renderFrame, type TopView, TrafficHistory } from '../../cli/ui/top.js';
import type { ChannelStatus, ControlStatus, StreamWithRates } from '../../lib/status/types.js';
import { startControl } from '../helpers/control.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, steeredPair, TestProxy } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { openTerminal } from '../helpers/terminals.js';
import { serialTestWith } from '../helpers/test-with.js';

function channel(label: string, sentBytes = 0, state: ChannelStatus['state'] = 'established'): ChannelStatus {
  const isUp = state === 'established';
  return {
    label,
    group: null,
    address: `unix-connect:/run/${label}.sock`,
    state,
    since: new Date().toISOString(),
    detail: isUp ? null : 'nobody is there',
    nextTryMs: isUp ? null : 1500,
    session: isUp
      ? {
          peer: { agent: 'vproxy 0.1.0', name: `guest of ${label}`, services: [] },
          protocolVersion: 1,
          integrity: 'frame',
          key: null,
          tls: null,
          resume: { here: false, peer: false },
          ageMs: 1000,
          roundTripMs: 0.25,
          clockOffsetMs: null,
          streams: 3,
          sendCreditBytes: 0,
          unwrittenBytes: 0,
        }
      : null,
    bufferBytes: null,
    history: { sessions: 1, ends: {}, recent: [] },
    totals: {
      sentBytes,
      receivedBytes: 2 * sentBytes,
      sentFrames: 1,
      receivedFrames: 1,
      skippedBytes: 0,
      stallMs: 0,
      streamsOpened: 1,
      streamsFailed: 0,
      resumptions: 0,
      resentBytes: 0,
    },
  };
}

function status(channels: readonly ChannelStatus[]): ControlStatus {
  return {
    process: {
      name: 'host\u001b[2J',
      pid: 42,
      version: 'vproxy 0.1.0',
      node: '20.20.2',
      startedAt: new Date().toISOString(),
      uptimeMs: 7_500_000,
      memory: { residentBytes: 54_200_000, heapBytes: 1, externalBytes: 1 },
      eventLoopDelay: { meanMs: 1.25, p99Ms: 10, maxMs: 20 },
      logLevel: 'info',
    },
    channels,
    forwards: 1,
    streams: 3,
  };
}

function stream(id: number, sendRate: number): StreamWithRates {
  return {
    channel: 'vm1',
    id,
    service: `s${id}`,
    direction: 'outgoing',
    forward: 'f1',
    from: null,
    ageMs: 1000 * id,
    sentBytes: 1_000_000,
    receivedBytes: 0,
    sendCreditBytes: 1,
    receiveCreditBytes: 1,
    waitsFor: null,
    datagrams: null,
    sendRate,
    receiveRate: 0,
  };
}

function view(changes: Partial<TopView> = {}): TopView {
  const history = new TrafficHistory();
  history.add(status([channel('vm1')]), 0);
  history.add(status([channel('vm1', 3_400_000)]), 1000);
  const facts = { status: status([channel('vm1', 3_400_000)]), streams: [], samples: history.samples, scroll: 0 };
  return { ...facts, isColored: false, isUnicode: true, ...changes };
}

test('a picture has the process, the throughput, the channels, and the streams by their rates', (t) => {
  const { lines } = renderFrame(view({ streams: [stream(1, 5), stream(2, 7_000_000), stream(3, 0)] }), {
    width: 80,
    height: 24,
  });
  t.is(lines.length, 24);
  const text = lines.join('\n');
  t.regex(lines[0] ?? '', /^vproxy host\\x1b\[2J \(42\) {2}up 2h 05m {2}memory 54\.2 MB {2}delay 1\.25 ms, p99/);
  t.regex(lines[1] ?? '', /^sent +3\.4 MB\/s +█ peak 3\.4 MB\/s$/);
  t.regex(lines[2] ?? '', /^received +6\.8 MB\/s +█ peak 6\.8 MB\/s$/);
  t.regex(text, /\nvm1 +established +\d+s +guest of .* 0\.25 ms +3 +3\.4 MB\/s +6\.8 MB\/s\n/);
  t.regex(text, /\nvm1\/2 +s2 .* 7\.0 MB\/s [^]*\nvm1\/1 +s1 .* 5 B\/s [^]*\nvm1\/3 +s3 /);
  t.is(lines.at(-1), 'q quits');
});

for (const [width, height] of [
  [80, 24],
  [40, 10],
  [20, 5],
  [1, 1],
  [300, 100],
] as const) {
  test(`no picture is larger than ${width}x${height}`, (t) => {
    const channels = Array.from({ length: 30 }, (_, index) =>
      channel(`vm${index}`, 5, index % 2 ? 'backing-off' : 'established'),
    );
    const streams = Array.from({ length: 200 }, (_, index) => stream(index, index));
    const { lines } = renderFrame(view({ status: status(channels), streams, scroll: 7 }), { width, height });
    t.is(lines.length, height);
    for (const line of lines) t.true(line.length <= width, line);
  });
}

test('what has no session comes first, and says what it waits for', (t) => {
  const channels = [channel('vm1', 9), channel('vm2', 0, 'backing-off')];
  const { lines } = renderFrame(view({ status: status(channels) }), { width: 100, height: 24 });
  const [, first, second] = lines.slice(lines.findIndex((line) => line.startsWith('CHANNEL')));
  t.regex(first ?? '', /^vm2 +backing-off +\d+s +nobody is there; next try in 1\.5 s/);
  t.regex(second ?? '', /^vm1 +established/);
});

test('a suspended channel comes first, and its streams wait for a link', (t) => {
  const waiting = { ...channel('vm1'), state: 'suspended', detail: 'it lost its link' } as const;
  const channels = [channel('vm2', 9), waiting];
  const streams = [stream(1, 0), { ...stream(2, 0), channel: 'vm2' }];
  const { lines } = renderFrame(view({ status: status(channels), streams }), { width: 100, height: 24 });
  const [, first, second] = lines.slice(lines.findIndex((line) => line.startsWith('CHANNEL')));
  t.regex(first ?? '', /^vm1 +suspended +\d+s +guest of vm1 .* 3 +/);
  t.regex(second ?? '', /^vm2 +established/);
  t.regex(lines.join('\n'), /\nvm1\/1 .* link *\n/);
  t.regex(lines.join('\n'), /\nvm2\/2 .* - *\n/);
});

test('a picture that is wide enough tells how often the session of a channel went on with another link', (t) => {
  const resuming = (label: string, resumptions: number, here: boolean): ChannelStatus => {
    const { session, totals, ...rest } = channel(label);
    const resume = { here, peer: true };
    return { ...rest, session: session && { ...session, resume }, totals: { ...totals, resumptions } };
  };
  const channels = [resuming('vm1', 12, true), resuming('vm2', 0, true), resuming('vm3', 0, false)];
  const linesOf = (width: number) => renderFrame(view({ status: status(channels) }), { width, height: 24 }).lines;
  const [titles, ...rows] = linesOf(110).slice(linesOf(110).findIndex((line) => line.startsWith('CHANNEL')));
  t.regex(titles ?? '', / RESUMED *$/);
  for (const [index, cell] of ['12', '0', '-'].entries()) t.regex(rows[index] ?? '', new RegExp(` ${cell}$`));
  t.false(linesOf(109).join('\n').includes('RESUMED'));
  t.regex(formatTopLine(view({ status: status(channels) })), /^channels 3\/3 {2}streams 3 {2}resumed 12 {2}sent /);
});

test('scrolling ends at the last stream', (t) => {
  const streams = Array.from({ length: 50 }, (_, index) => stream(index + 1, 50 - index));
  const size = { width: 80, height: 24 };
  const first = renderFrame(view({ streams }), size);
  const room = Number(/^1-(\d+) of 50 streams/.exec(first.lines.at(-1) ?? '')?.[1]);
  const last = renderFrame(view({ streams, scroll: 1000 }), size);
  t.is(last.scroll, 50 - room);
  t.regex(last.lines.join('\n'), /\nvm1\/50 /);
  t.regex(renderFrame(view({ streams, scroll: 1 }), size).lines.join('\n'), /WAITS +\nvm1\/2 /);
});

test('colours are put around lines, and nothing else changes', (t) => {
  const size = { width: 80, height: 24 };
  const plain = renderFrame(view({ streams: [stream(1, 1)] }), size).lines;
  const colored = renderFrame(view({ streams: [stream(1, 1)], isColored: true }), size).lines;
  t.true(colored.some((line) => line.includes('\u001b[32m')));
  t.deepEqual(
    colored.map((line) => line.replace(/\u001b\[\d+m/g, '')),
    plain,
  );
});

test('a sparkline shows shares of its peak, the newest at the right', (t) => {
  t.is(formatSparkline([0, 1, 4, 8], 6, 8, true), '   ▁▄█');
  t.is(formatSparkline([8, 0, 8], 2, 8, false), ' #');
  t.is(formatSparkline([1], 0, 1, true), '');
});

test('rates begin anew with a channel of the same label', (t) => {
  const history = new TrafficHistory();
  history.add(status([channel('vm1', 1000)]), 0);
  history.add(status([channel('vm1', 3000), channel('vm2', 500)]), 2000);
  t.like(history.samples[0], { sendRate: 1250, receiveRate: 2500 });
  history.add(status([channel('vm1', 100)]), 3000);
  t.like(history.samples[1], { sendRate: 100 });
});

const TOP = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')} top`;

serialTestWith('tmux')('in a terminal: a live picture, keys, a new size, and the terminal as it was', async (t) => {
  const target = await localServer(t, echo);
  const { here, env } = await steeredPair(t, {
    here: { outgoing: ['echo:127.0.0.1:0'] },
    peer: { incoming: [`echo:127.0.0.1:${target.port}`] },
  });
  const terminal = await openTerminal(t, `echo before; ${TOP} --interval 0.2; echo "status $?"; cat`, env);
  const shows = (pattern: RegExp) => terminal.shows(pattern);
  await shows(/^vproxy host1 \(\d+\) {2}up .*[^]*\ndefault +established[^]*No streams\.[^]*q quits/);
  t.deepEqual(await terminal.modes(), { isAlternate: true, hasCursor: false });
  for (let count = 0; count < 30; count++) {
    const socket = localSocket(t, { host: '127.0.0.1', port: here.port('echo') });
    socket.on('error', () => undefined).write('x'.repeat(100_000));
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

serialTestWith('tmux')(
  'in a terminal: a channel that loses its link is suspended, and resumed with the next one',
  async (t) => {
    const folder = temporaryFolder(t);
    const [near, far] = [join(folder, 'near'), join(folder, 'far')];
    const relay = new CuttingRelay();
    await relay.start(t, near, far);
    const target = await localServer(t, echo);
    const here = new TestProxy(t, `unix-listen:${far},resume=60s`, { outgoing: ['echo:0'] });
    const peer = new TestProxy(t, `unix-connect:${near},resume=60s`, { incoming: [`echo:${target.port}`] });
    for (const side of [here, peer]) await side.start();
    await Promise.all([here, peer].map((side) => side.event('services')));
    const socket = localSocket(t, { host: '127.0.0.1', port: here.port('echo') });
    socket.write('hello');
    await once(socket, 'data');
    const control = await startControl(t, here.proxy);
    const terminal = await openTerminal(t, `${TOP} --interval 0.2; cat`, { VPROXY_SOCKET: control.path });
    await terminal.resize(120, 24);
    await terminal.shows(/\ndefault +established .* 0\n[^]*\ndefault\/\d+ +echo .* -\n/);
    relay.leftBytes = 0;
    relay.cut();
    await terminal.shows(/\ndefault +suspended .* 0\n[^]*\ndefault\/\d+ +echo .* link\n/);
    relay.leftBytes = Number.POSITIVE_INFINITY;
    peer.proxy.retryNow();
    const { input } = await terminal.shows(/\ndefault +established .* 1\n[^]*\ndefault\/\d+ +echo .* -\n/);
    t.regex(input, / RESUMED\n/);
  },
);

serialTestWith('tmux')('in a terminal: where the process goes, there is one line', async (t) => {
  const { control, env } = await steeredPair(t);
  const terminal = await openTerminal(t, `${TOP} --interval 0.2; echo "status $?"; cat`, env);
  await terminal.shows(/default/);
  await control.server.close();
  await terminal.shows(/^vproxy: error: no process answers on [^]*\nstatus 69\n/);
  t.deepEqual(await terminal.modes(), { isAlternate: false, hasCursor: true });
});

test.serial('where the output is no terminal, there is a line each interval', async (t) => {
  const { run } = await steeredPair(t);
  const { code, stdout, stderr } = await run('top', '--count', '2', '--interval', '0.1');
  t.deepEqual([code, stderr], [0, '']);
  t.regex(
    stdout,
    /^(\S+Z channels 1\/1 {2}streams 0 {2}resumed 0 {2}sent \d+ B\/s {2}received \d+ B\/s {2}memory [\d.]+ MB {2}delay .*\n){2}$/,
  );
});
