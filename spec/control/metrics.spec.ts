/** Metrics for Prometheus. */
import { once } from 'node:events';
import test from 'ava';
import { describeMetrics } from '../../lib/control/context/metrics.js';
import { labelText, MetricsText } from '../../lib/control/context/metrics-text.js';
import type { LogEvent } from '../../lib/events.js';
import { ChannelTally } from '../../lib/status/channel-tally.js';
import type { CallKind } from '../../lib/status/totals.js';
import type { PortStatus } from '../../lib/status/types.js';
import { Histogram } from '../../lib/util/tally.js';
import { ask, startControl } from '../helpers/control.js';
import {
  answerTo,
  ask as askEcho,
  countsOf,
  echo,
  localServer,
  localSocket,
  proxyPair,
  steeredPair,
} from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

test('the text has HELP and TYPE, and is escaped', (t) => {
  const text = new MetricsText();
  text.add({ name: 'a_total', type: 'counter', help: 'One\nline \\ only.' }, '', 3);
  const gauge = { name: 'b_seconds', type: 'gauge', help: 'B.' } as const;
  text.add(gauge, labelText({ channel: 'a"b\\c\nd', x: '1' }), 0.5);
  text.add(gauge, labelText({ channel: 'e' }), Number.POSITIVE_INFINITY);
  text.add(gauge, labelText({ channel: 'f' }), Number.NaN);
  const durations = new Histogram([0.5, 1]);
  const histogram = { name: 'c_seconds', type: 'histogram', help: 'C.' } as const;
  text.addHistogram(histogram, 'channel="none"', durations);
  for (const milliseconds of [500, 501, 1000, 3000]) durations.add(milliseconds);
  text.addHistogram(histogram, 'channel="g"', durations);
  t.is(
    text.bytes.toString(),
    [
      '# HELP a_total One\\nline \\\\ only.',
      '# TYPE a_total counter',
      'a_total 3',
      '# HELP b_seconds B.',
      '# TYPE b_seconds gauge',
      'b_seconds{channel="a\\"b\\\\c\\nd",x="1"} 0.5',
      'b_seconds{channel="e"} +Inf',
      'b_seconds{channel="f"} NaN',
      '# HELP c_seconds C.',
      '# TYPE c_seconds histogram',
      'c_seconds_bucket{channel="g",le="0.5"} 1',
      'c_seconds_bucket{channel="g",le="1"} 3',
      'c_seconds_bucket{channel="g",le="+Inf"} 4',
      'c_seconds_sum{channel="g"} 5.001',
      'c_seconds_count{channel="g"} 4',
      '',
    ].join('\n'),
  );
});

test('a page has what a histogram counts now, and lines longer than its buffers', (t) => {
  const durations = new Histogram([1]);
  const labels = labelText({ channel: 'é'.repeat(20_000) });
  const pages = [1, 0, 2].map((count) => {
    for (let index = 0; index < count; index++) durations.add(500);
    const text = new MetricsText();
    text.addHistogram({ name: 'c_seconds', type: 'histogram', help: 'C.' }, labels, durations);
    return text.bytes.toString();
  });
  const lines = (count: number) => [
    `c_seconds_bucket{${labels},le="1"} ${count}`,
    `c_seconds_bucket{${labels},le="+Inf"} ${count}`,
    `c_seconds_sum{${labels}} ${count / 2}`,
    `c_seconds_count{${labels}} ${count}`,
  ];
  for (const [index, count] of [1, 1, 3].entries())
    t.deepEqual(pages[index]?.trimEnd().split('\n').slice(2), lines(count));
});

/** `name{labels}` of each series with its value; throws for a malformed line. */
function parseMetrics(text: string | Buffer): Map<string, number> {
  const series = new Map<string, number>();
  let current = '';
  for (const line of String(text).trimEnd().split('\n')) {
    const [, kind, name = ''] = /^# (HELP|TYPE) ([a-z_]+) \S.*$/.exec(line) ?? [];
    if (kind === 'HELP') current = name;
    if (kind !== undefined) continue;
    const [, metric = '', labels = '', value = ''] =
      /^([a-z_]+)((?:\{(?:[a-z]+="[^"\n]*",?)+\})?) (-?[0-9.e+-]+)$/.exec(line) ?? [];
    if (
      metric === '' ||
      metric.replace(/(_seconds)_(bucket|sum|count)$/, '$1') !== current ||
      series.has(metric + labels)
    )
      throw new Error(line);
    series.set(metric + labels, Number(value));
  }
  return series;
}

test('the page has the counters of channels and process, under names with units', async (t) => {
  const target = await localServer(t, echo);
  const here = { outgoing: ['echo:0'], label: 'vm1' };
  const incoming = [`echo:127.0.0.1:${target.port}`];
  const { here: a, peer: b, control } = await steeredPair(t, { here, peer: { incoming } });
  t.is(await askEcho(t, a.port('echo')), 'hello');
  await b.proxy.stop();
  await a.event('session-ended');
  const { text, headers } = await control.ask('GET', '/metrics');
  t.is(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  const series = parseMetrics(text);
  const value = (name: string) => series.get(name.replace(/^(\w+)(.*)$/, 'vproxy_channel_$1{channel="vm1"$2}'));
  for (const [name, wanted] of [
    ['sessions_total', 1],
    ['session_ends_total,code="shutdown"', 1],
    ['sent_bytes_total', 5],
    ['received_bytes_total', 5],
    ['streams_opened_total', 1],
    ['streams_failed_total', 0],
    ['forwards', 1],
    ['log_lines_suppressed_total,log="audit"', 0],
    ['ports,side="peer"', 0],
    ['state,state="established"', 0],
    ['round_trip_seconds', undefined],
  ] as const)
    t.is(value(name), wanted, name);
  const own = (name: string) => series.get(`process_${name}`) ?? 0;
  t.true(own('resident_memory_bytes') > 1e7 && own('cpu_seconds_total') > 0);
  t.true(own('open_fds') > 3 && own('open_fds') < own('max_fds'));
  t.is(series.get('vproxy_log_lines_lost_total{log="log"}'), 0);
  t.true(Math.abs(own('start_time_seconds') + process.uptime() - Date.now() / 1000) < 60);
  for (const name of series.keys())
    t.regex(name, /(_total|_seconds(_bucket|_sum|_count)?|_bytes|_fds|_info|_state|_streams|_forwards|_ports)(\{|$)/);
});

test('the forwards of a service are counted, also while their streams are open', async (t) => {
  const target = await localServer(t, echo);
  const closed = await localServer(t, echo);
  closed.close();
  const here = { outgoing: ['echo:0', 'closed:0', 'evil:0', 'nosy:0'], label: 'vm1' };
  const incoming = [`echo:127.0.0.1:${target.port}`, `closed:127.0.0.1:${closed.port}`];
  const peer = { incoming, label: 'host', policies: { nosy: { isAllowed: false } } };
  const { here: a, peer: b } = await steeredPair(t, { here, peer });
  const socket = localSocket(t, a.port('echo'));
  t.is(await answerTo(socket, 'hello'), 'hello');
  const refused = ['closed', 'evil', 'nosy'].map((name) => localSocket(t, a.port(name)).on('error', () => undefined));
  await Promise.all(refused.map((each) => new Promise((resolve) => each.once('close', resolve))));
  await eventually(() => b.events.filter(({ event }) => /refused|denied|reset/.test(event)).length === 3);
  const seriesOf = async ({ proxy }: typeof a, direction: string) => {
    const series = parseMetrics(await describeMetrics({ proxy, process: { version: 'vproxy test' } }));
    return (name: string, service: string, rest = '') => {
      const channel = proxy === a.proxy ? 'vm1' : 'host';
      return series.get(
        `vproxy_service_${name}{channel="${channel}",direction="${direction}",service="${service}"${rest}}`,
      );
    };
  };
  const [out, into] = [await seriesOf(a, 'outgoing'), await seriesOf(b, 'incoming')];
  for (const look of [out, into]) {
    t.deepEqual([look('streams_total', 'echo'), look('open_streams', 'echo')], [1, 1]);
    t.deepEqual([look('sent_bytes_total', 'echo'), look('received_bytes_total', 'echo')], [5, 5]);
    t.is(look('connect_seconds_count', 'echo'), 1);
    t.is(look('refusals_total', 'closed', ',code="connect-refused"'), 1);
    t.is(look('streams_total', 'closed'), 0);
  }
  t.is(out('refusals_total', 'evil', ',code="unknown-service"'), 1);
  t.is(into('refusals_total', 'other', ',code="unknown-service"'), 1, 'a name from the peer is no label');
  for (const look of [out, into]) t.is(look('refusals_total', 'nosy', ',code="denied"'), 1);
  const since = b.events.length;
  socket.resetAndDestroy();
  await b.event('stream-reset', since);
  const after = await seriesOf(b, 'incoming');
  t.deepEqual([after('open_streams', 'echo'), after('received_bytes_total', 'echo')], [0, 5]);
  t.is(after('resets_total', 'echo', ',code="local-error"') ?? after('resets_total', 'echo', ',code="cancelled"'), 1);
});

test('calls are counted by result, from their events', (t) => {
  const nothing = { message: '', level: 'info' } as const;
  const rows: [LogEvent['event'], LogEvent['fields'], CallKind, string][] = [
    ['storage-call', { status: 0, code: null, durationMs: 20 }, 'storage', 'ok'],
    ['storage-call', { status: 3, code: null, durationMs: 20 }, 'storage', 'failed'],
    ['storage-call', { status: null, code: 'storage-timeout', durationMs: 20 }, 'storage', 'storage-timeout'],
    ['exec-ended', { status: 0, signal: null, timedOut: false, durationMs: 20 }, 'exec', 'ok'],
    ['exec-ended', { status: 9, signal: null, timedOut: false, durationMs: 20 }, 'exec', 'failed'],
    ['exec-ended', { status: null, signal: 'SIGKILL', timedOut: false, durationMs: 20 }, 'exec', 'signal'],
    ['exec-ended', { status: null, signal: 'SIGKILL', timedOut: true, durationMs: 20 }, 'exec', 'timeout'],
    ['exec-refused', { code: 'command-denied' }, 'exec', 'command-denied'],
    ['copy-ended', { direction: 'put', code: null, durationMs: 20 }, 'copy', 'put ok'],
    ['copy-ended', { direction: 'get', code: 'copy-failed', durationMs: 20 }, 'copy', 'get copy-failed'],
    ['copy-refused', { direction: 'get', code: 'invented', durationMs: 0 }, 'copy', 'get other'],
    ['egress', { egress: 'web', durationMs: 20 }, 'egress', 'web allowed'],
    ['egress-refused', { egress: 'web', reason: 'denied' }, 'egress', 'web denied'],
  ];
  for (const [event, fields, kind, labels] of rows) {
    const tally = new ChannelTally(() => ({ log: 0, audit: 0 }));
    tally.record({ ...nothing, event, fields });
    const { durations, results } = tally.calls[kind];
    t.deepEqual(countsOf(results), { [labels]: 1 });
    t.is(durations.sumMs, event.endsWith('-refused') ? 0 : 20);
  }
});

test('no label contains text from a peer', async (t) => {
  const name = 'evil"} 1\nforged 2';
  const { here: a, control } = await steeredPair(t, { peer: { name, agent: 'evil 1' } });
  const read = async () => (await control.ask('GET', '/metrics')).text;
  const roundTrip = 'vproxy_channel_round_trip_seconds{channel="default"}';
  const text = await eventually(() => read().then((page) => page.includes(roundTrip) && page), {
    what: 'a round trip',
  });
  t.notThrows(() => parseMetrics(text));
  t.false(text.includes('evil') || text.includes('forged'));
  const series = parseMetrics(text);
  t.is(series.get('vproxy_channel_state{channel="default",state="established"}'), 1);
  t.true((series.get('vproxy_channel_round_trips_seconds_count{channel="default"}') ?? 0) > 0);
  t.is(series.get(roundTrip), (a.proxy.channel('default').session?.roundTripMs ?? 0) / 1000);
});

test('the public page is made at most once a second, the operator’s for each request', async (t) => {
  const { a } = await proxyPair(t, { a: { label: 'vm1' } });
  const clock = new ManualClock();
  const control = await startControl(t, a.proxy, { clock });
  const address = await control.server.listenForMetrics({ host: '127.0.0.1', port: 0 });
  const states = async (): Promise<boolean[]> => {
    const pages = [await ask(address, 'GET', '/metrics'), await control.ask('GET', '/metrics')];
    return pages.map(({ text }) => text.includes('{channel="vm1"}'));
  };
  t.deepEqual(await states(), [true, true]);
  await a.proxy.removeChannel('vm1');
  clock.advance(999);
  t.deepEqual(await states(), [true, false]);
  clock.advance(1);
  t.deepEqual(await states(), [false, false]);
});

test.serial('the time for a page is proportional to channels and ports, in turns', async (t) => {
  const [sample] = (await steeredPair(t)).here.proxy.listMeasured();
  if (sample === undefined) throw new Error('it has no channel');
  const ports = Array.from({ length: 320 }, (_, port): PortStatus => {
    const announcedBy = port < 20 ? 'here' : 'peer';
    return { channel: '', port, program: null, announcedBy, endpoint: null, forward: null, streams: 0 };
  });
  const listMeasured = () =>
    Array.from({ length: 200 }, (_, index) => ({
      ...{ label: `vm${index}`, sessions: sample.sessions, tally: new ChannelTally(() => ({ log: 0, audit: 0 })) },
      ...{ forwards: { count: 0, listMessages: () => [] }, ports: { list: () => [...ports] } },
    }));
  const before = process.cpuUsage();
  let turnCount = 0;
  const turn = (): void => void (turnCount += 1);
  const turns = setInterval(turn, 0);
  const page = await describeMetrics({ proxy: { listMeasured }, process: { version: 'vproxy test' } });
  clearInterval(turns);
  t.true(turnCount > 0, 'other work has its turns');
  const { user, system } = process.cpuUsage(before);
  const series = parseMetrics(page);
  t.is(series.get('vproxy_channel_ports{channel="vm7",side="here"}'), 20);
  t.is(series.get('vproxy_channel_ports{channel="vm7",side="peer"}'), 300);
  t.true(user + system < 200_000, `${(user + system) / 1000} ms`);
});

test('a TCP address for metrics serves the page and nothing else', async (t) => {
  const { server, path } = (await steeredPair(t)).control;
  const address = await server.listenForMetrics({ host: '127.0.0.1', port: 0 });
  t.deepEqual(server.paths, [path]);
  t.true(address.port > 0);
  t.regex((await ask(address, 'GET', '/metrics')).text, /^vproxy_build_info\{/m);
  t.is((await ask(address, 'GET', '/v1/status')).status, 404);
  t.is((await ask(address, 'POST', '/v1/stop')).status, 404);
  const { status, headers } = await ask(address, 'POST', '/metrics');
  t.deepEqual([status, headers.allow], [405, 'GET, HEAD']);
  const upgrade = { headers: { Connection: 'Upgrade', Upgrade: 'vproxy-stream' } };
  t.is((await ask(address, 'GET', '/v1/connect?service=x', upgrade)).status, 404);
  await t.throwsAsync(server.listenForMetrics(address), { code: 'address-in-use' });
});

test('a TCP address for metrics closes the connection of a request with a body, which could be endless', async (t) => {
  const { server } = (await steeredPair(t)).control;
  const { port } = await server.listenForMetrics({ host: '127.0.0.1', port: 0 });
  for (const field of ['Content-Length: 9999999999', 'Transfer-Encoding: chunked']) {
    const socket = localSocket(t, port);
    socket.write(`GET /metrics HTTP/1.1\r\nHost: localhost\r\n${field}\r\n\r\n`);
    const [head] = (await once(socket, 'data')) as [Buffer];
    t.regex(head.toString(), /^HTTP\/1.1 200 OK\r\n(.*\r\n)*Connection: close\r\n/);
    await once(socket.resume(), 'end');
  }
});
