/** Metrics for Prometheus. */
import { join } from 'node:path';
import test from 'ava';
import { describeMetrics, formatMetrics } from '../../lib/control/context/metrics.js';
import type { PortStatus } from '../../lib/status/types.js';
import { ask, startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { ask as askEcho, connectedProxies, echo, localServer, steeredPair } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

test('the text has HELP and TYPE, and is escaped', (t) => {
  const text = formatMetrics([
    { name: 'a_total', type: 'counter', help: 'One\nline \\ only.', samples: [{ labels: {}, value: 3 }] },
    {
      name: 'b_seconds',
      type: 'gauge',
      help: 'B.',
      samples: [
        { labels: { channel: 'a"b\\c\nd', x: '1' }, value: 0.5 },
        { labels: { channel: 'e' }, value: Number.POSITIVE_INFINITY },
        { labels: { channel: 'f' }, value: Number.NaN },
      ],
    },
    { name: 'c', type: 'gauge', help: 'Not there.', samples: [] },
  ]);
  t.is(
    text,
    [
      '# HELP a_total One\\nline \\\\ only.',
      '# TYPE a_total counter',
      'a_total 3',
      '# HELP b_seconds B.',
      '# TYPE b_seconds gauge',
      'b_seconds{channel="a\\"b\\\\c\\nd",x="1"} 0.5',
      'b_seconds{channel="e"} +Inf',
      'b_seconds{channel="f"} NaN',
      '',
    ].join('\n'),
  );
});

/** `name{labels}` of each series with its value; throws for a malformed line. */
function parseMetrics(text: string): Map<string, number> {
  const series = new Map<string, number>();
  let current = '';
  for (const line of text.trimEnd().split('\n')) {
    const [, kind, name = ''] = /^# (HELP|TYPE) ([a-z_]+) \S.*$/.exec(line) ?? [];
    if (kind === 'HELP') current = name;
    if (kind !== undefined) continue;
    const [, metric = '', labels = '', value = ''] =
      /^([a-z_]+)((?:\{(?:[a-z]+="[^"\n]*",?)+\})?) (-?[0-9.e+-]+)$/.exec(line) ?? [];
    if (metric === '' || metric !== current || series.has(metric + labels)) throw new Error(line);
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
    ['ports,side="peer"', 0],
    ['state,state="established"', 0],
    ['round_trip_seconds', undefined],
  ] as const)
    t.is(value(name), wanted, name);
  const own = (name: string) => series.get(`process_${name}`) ?? 0;
  t.true(own('resident_memory_bytes') > 1e7 && own('cpu_seconds_total') > 0);
  t.true(Math.abs(own('start_time_seconds') + process.uptime() - Date.now() / 1000) < 60);
  for (const name of series.keys())
    t.regex(name, /(_total|_seconds|_bytes|_info|_state|_streams|_forwards|_ports)(\{|$)/);
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
  t.is(series.get(roundTrip), (a.proxy.channel('default').session?.roundTripMs ?? 0) / 1000);
});

test('the public page is made at most once a second, the operator’s for each request', async (t) => {
  const { a } = await connectedProxies(t, join(temporaryFolder(t), 'c'), { label: 'vm1' }, {});
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

test.serial('the time for a page is proportional to channels and ports', async (t) => {
  const [sample] = (await steeredPair(t)).here.proxy.listChannels();
  if (sample === undefined) throw new Error('it has no channel');
  const labels = Array.from({ length: 200 }, (_, index) => `vm${index}`);
  const channels = labels.map((label) => ({ ...sample, label }));
  const ports = labels.flatMap((channel) =>
    Array.from({ length: 320 }, (_, port): PortStatus => {
      const announcedBy = port < 20 ? 'here' : 'peer';
      return { channel, port, program: null, announcedBy, endpoint: null, forward: null, streams: 0 };
    }),
  );
  const proxy = { listChannels: () => channels, listForwards: () => [], listPorts: () => ports };
  const before = process.cpuUsage();
  const page = describeMetrics({ proxy, process: { version: 'vproxy test' } });
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
