/**
 * Random lives of a guest's ways out (egresses, redirected connections, an origin) beside a model: all is reached, refused, asked
 * and logged as docs/egress.md says, whatever changes in between.
 */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { MAX_FOR_S } from '../../lib/forward/egress/rules.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer } from '../helpers/local-server.js';
import { searchRuns } from '../helpers/searches.js';
import { EGRESSES, EgressModel, FIRST_ADDRESSES, type Happenings } from './egress-model.js';
import { EgressWorld, type Servers } from './egress-world.js';
import { FIELDS, SEGMENTS } from './origin-model.js';

const LIVES = process.env['LONG'] === undefined ? searchRuns(120) : 5000;
const numRuns = Number(process.env['VPROXY_LIVES'] ?? LIVES);
const seed = process.env['SEED'] === undefined ? Date.now() | 0 : Number(process.env['SEED']);

const ADDRESSES = ['93.184.216.1', '93.184.216.2', '2600::1', '10.0.0.1'] as const;
const NAMES = FIRST_ADDRESSES.map(([name]) => name);
const ENTRIES = [
  ...['a.test:80', 'a.test:443', 'b.test:80', 'b.test:80,443', 'c.test:*', '*.test:443', '*:443', '*:80'],
  ...['93.184.216.1:80', '93.184.216.1:443', '93.184.216.2:443', '93.184.216.0/24:80', '[2600::1]:443'],
  ...['10.0.0.1:80', '10.0.0.1:443'],
];
const ALLOWED = [
  { methods: ['GET', 'POST'], path: '/v1/', isBeginning: true },
  { methods: ['GET'], path: '/v1', isBeginning: true },
  { methods: ['DELETE'], path: '/v1/models', isBeginning: false },
  { methods: ['get'], path: '/', isBeginning: true },
  { methods: null, path: '/models', isBeginning: false },
  { methods: null, path: '/V1/', isBeginning: true },
];

const mostly = <T, U>(usual: fc.Arbitrary<T>, other: fc.Arbitrary<U>) =>
  fc.oneof({ weight: 8, arbitrary: usual }, { weight: 1, arbitrary: other });
const segmentOf = (...raws: string[]) => fc.constantFrom(...SEGMENTS.filter(([raw]) => raws.includes(raw)));

const egress = fc.constantFrom(...EGRESSES);
const port = fc.constantFrom(80, 443);
const address = fc.constantFrom(...ADDRESSES);
const name = fc.constantFrom(...NAMES);
const forMs = fc.constantFrom(null, 1000, 4000, MAX_FOR_S * 1000);
const askMs = fc.constantFrom(1000, 5000, 30_000);
const entry = fc.constantFrom(...ENTRIES);
const entries = fc.uniqueArray(entry, { maxLength: 4 });
const rules = fc.record({
  allow: entries,
  deny: fc.oneof(fc.constant([]), entries),
  askMs: fc.option(askMs, { freq: 3 }),
});
const request = fc.record({
  method: mostly(fc.constantFrom('GET', 'POST'), fc.constantFrom('DELETE', 'get', 'PURGE', 'TRACE', 'CONNECT')),
  prefix: mostly(fc.constant(''), fc.constantFrom('http://guest.test', '/', 'v1')),
  segments: fc
    .tuple(
      mostly(segmentOf('v1', '%76%31'), segmentOf('models', 'V1', '..', '%2e%2e', '')),
      fc.array(fc.oneof(segmentOf('v1', 'models', '%c3%bc', ''), fc.constantFrom(...SEGMENTS)), { maxLength: 3 }),
    )
    .map(([first, rest]) => [first, ...rest]),
  query: fc.constantFrom('', '?q=/../%2f//'),
  fields: fc.uniqueArray(fc.constantFrom(...Object.keys(FIELDS)), { maxLength: 4 }),
  body: fc.constantFrom('', '', 'hello'),
  isChunked: fc.boolean(),
});
const origin = fc.record({
  allow: fc.uniqueArray(fc.constantFrom(...ALLOWED), { minLength: 1, maxLength: 3 }),
  isKeyed: fc.boolean(),
});

type Name = keyof Happenings;
type Step = { [N in Name]: readonly [N, ...Parameters<Happenings[N]>] }[Name];

/** Each with its weight. */
const STEPS: readonly (readonly [number, fc.Arbitrary<Step>])[] = [
  [5, fc.tuple(fc.constant('connect'), egress, fc.constantFrom(...NAMES, ...ADDRESSES), port, fc.constant(false))],
  [6, fc.tuple(fc.constant('connect'), egress, address, port, fc.constant(true))],
  [2, fc.tuple(fc.constant('leave'), fc.nat(5), fc.constantFrom('ended', 'reset'))],
  [7, fc.tuple(fc.constant('request'), request, fc.boolean())],
  [3, fc.tuple(fc.constant('answer'), fc.nat(9), fc.boolean(), forMs)],
  [2, fc.tuple(fc.constant('allow'), egress, entry, forMs)],
  [1, fc.tuple(fc.constant('ask'), egress, askMs)],
  [2, fc.tuple(fc.constant('reset'), egress, fc.boolean())],
  [1, fc.tuple(fc.constant('reload'), rules, rules)],
  [1, fc.tuple(fc.constant('reloadOrigin'), origin)],
  [1, fc.tuple(fc.constant('write'), fc.constantFrom('key-1', 'key-2', 'key-3', ''))],
  [1, fc.tuple(fc.constant('lead'), name, fc.oneof(address, fc.constant(null)))],
  [4, fc.tuple(fc.constant('learn'), egress, name, address, fc.constantFrom(1, 3600))],
  [4, fc.tuple(fc.constant('pass'), fc.constantFrom(1, 999, 1000, 5000, 30_000, 600_000))],
  [2, fc.tuple(fc.constant('upgrade'))],
];
const steps = fc.oneof(...STEPS.map(([weight, arbitrary]) => ({ weight, arbitrary })));

const happen = (one: Happenings, [what, ...args]: Step): unknown =>
  (one[what] as (...args: readonly unknown[]) => unknown).apply(one, args);

async function startServers(t: ExecutionContext): Promise<Servers> {
  const echo = await localServer(t, (socket) => void socket.pipe(socket));
  const server = await localServer(t, (socket) => {
    let held = '';
    servers.onSaid('origin connected');
    socket.on('end', () => socket.end());
    socket.on('data', (bytes: Buffer) => {
      held += bytes.toString('latin1');
      const [, head, rest = ''] = /^([^]*?)\r\n\r\n([^]*)$/.exec(held) ?? [];
      if (head === undefined) return;
      const size = Number(/\r\nContent-Length: (\d+)/.exec(head)?.[1] ?? 0);
      const isWhole = head.includes('\r\nTransfer-Encoding: ') ? rest.endsWith('\r\n0\r\n\r\n') : rest.length >= size;
      if (!isWhole) return;
      held = '';
      const body = rest.replace(/^5\r\n(.*)\r\n0\r\n\r\n$/, '$1');
      const lines = head.replace(`127.0.0.1:${server.port}`, 'ORIGIN').split('\r\n');
      servers.onSaid(`origin got ${lines.join(' | ')} | | ${body}`);
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
  });
  const keyFile = join(temporaryFolder(t), 'key');
  const servers: Servers = { echoPort: echo.port, originPort: server.port, keyFile, onSaid: () => undefined };
  return servers;
}

/** Throws unless both have the same lines, each as often, in any order. */
function compare(happened: readonly string[], expected: readonly string[], step: string): void {
  const missing = [...expected];
  const others = happened.filter((line) => {
    const at = missing.indexOf(line);
    if (at >= 0) missing.splice(at, 1);
    return at < 0;
  });
  if (missing.length + others.length === 0) return;
  throw new Error(`${step}: expected ${JSON.stringify(missing)}, but happened ${JSON.stringify(others)}`);
}

test('a random life of egresses, an origin and redirected connections is that of its model, and its log tells it once', async (t) => {
  const servers = await startServers(t);
  const counts: Record<string, number> = { steps: 0 };
  const live = async (life: readonly Step[]): Promise<void> => {
    const [model, world] = [new EgressModel(), await EgressWorld.start(servers)];
    const check = async (step: string): Promise<void> => {
      const expected = model.expected.splice(0);
      const happened = await world.take(expected.length);
      compare([...happened, ...world.openQuestions], [...expected, ...model.openQuestions], step);
      for (const line of expected) counts[kindOf(line)] = (counts[kindOf(line)] ?? 0) + 1;
    };
    try {
      for (const [at, step] of life.entries()) {
        for (const one of [model, world]) await happen(one, step);
        await check(`step ${at}, ${step[0]}`);
        for (const one of [model, world]) one.echo();
        await check(`after step ${at}`);
      }
    } finally {
      await world.stop();
    }
    counts['steps'] = (counts['steps'] ?? 0) + life.length;
  };
  const lives = fc.array(steps, { minLength: 1, maxLength: 40, size: 'max' });
  await fc.assert(fc.asyncProperty(lives, live), { numRuns, seed, includeErrorInReport: true });
  t.log(`${numRuns} lives (seed ${seed}):`, counts);
  t.true((counts['egress-opened'] ?? 0) > numRuns / 10 && (counts['origin-request'] ?? 0) > numRuns / 10);
});

/** A line without its details: `egress-opened`, `# 403`. */
const kindOf = (line: string): string =>
  line.startsWith('#') ? line.replace(/\d+/, '') : (line.split(' ', 1)[0] ?? '');
