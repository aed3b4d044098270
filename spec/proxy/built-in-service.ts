/**
 * A service whose code is loaded when it is allowed: when that is, what happens to streams meanwhile, and what ends.
 */
import test from 'ava';
import { toVproxyError } from '../../lib/errors.js';
import type { LogEvent } from '../../lib/events.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { BuiltInService, type StreamServer } from '../../lib/proxy/services/built-in.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { type Deferred, deferred } from '../../lib/util/concurrency.js';
import { carryOn, SessionPair } from '../helpers/session-pair.js';

/** What each load was for, and how to end it. */
interface Load {
  readonly permission: string;
  readonly result: Deferred<StreamServer>;
}

/** A side b with a service `x` whose code comes when the test says so; a opens streams to it. */
function setUp() {
  const pair = new SessionPair();
  const failed: unknown[] = [];
  const registry = new ServiceRegistry({ onFailed: (_stream, error) => failed.push(error) });
  pair.b.onSession = (session) => session.on('stream', (stream) => registry.serve(stream, session));
  pair.establish();
  const loads: Load[] = [];
  const logged: LogEvent[] = [];
  const service = new BuiltInService<string>({
    name: 'x',
    registry,
    log: (event) => logged.push(event),
    load: (permission) => {
      const result = deferred<StreamServer>();
      loads.push({ permission, result });
      return result.promise;
    },
  });
  const open = async () => {
    const stream = MuxStream.open(pair.a.session, 'x');
    const end: { code: string | null; text: string } = { code: null, text: '' };
    stream.on('error', (error) => (end.code = toVproxyError(error).code));
    stream.on('data', (bytes: Buffer) => (end.text += bytes.toString()));
    await carryOn(pair);
    return { stream, end };
  };
  return { pair, registry, loads, logged, service, failed, open };
}

/** Sends its name on each stream, and keeps it open. */
class Namer implements StreamServer {
  readonly name: string;
  isStopped = false;

  constructor(name: string) {
    this.name = name;
  }

  serve(stream: MuxStream): void {
    stream.write(this.name);
  }

  stop(): Promise<void> {
    this.isStopped = true;
    return Promise.resolve();
  }
}

test('without a permission nothing is offered, and nothing is loaded', async (t) => {
  const { registry, loads, service, open } = setUp();
  service.allow(null);
  service.start();
  t.deepEqual(registry.list(), []);
  t.is((await open()).end.code, 'unknown-service');
  await service.stop();
  t.is(loads.length, 0);
});

test('with one it is loaded at the start, once, and streams that come before that wait for it', async (t) => {
  const { pair, registry, loads, service, open } = setUp();
  service.allow('a');
  t.deepEqual(registry.list(), ['x']);
  t.is(loads.length, 0, 'what is not started loads nothing');
  service.start();
  t.is(loads.length, 1);
  const [first, second] = [await open(), await open()];
  loads[0]?.result.resolve(new Namer('a'));
  await carryOn(pair);
  t.deepEqual(
    [first.end, second.end],
    [
      { code: null, text: 'a' },
      { code: null, text: 'a' },
    ],
  );
  t.is(loads.length, 1);
});

test('another permission counts for the streams to come, none for no stream; what runs goes on until the stop', async (t) => {
  const { pair, registry, loads, service, open } = setUp();
  const servers = ['a', 'b'].map((name) => new Namer(name));
  service.allow('a');
  service.start();
  loads[0]?.result.resolve(servers[0] as Namer);
  const first = await open();
  service.allow('a');
  t.is(loads.length, 1, 'the same one is no change');
  service.allow('b');
  loads[1]?.result.resolve(servers[1] as Namer);
  t.is((await open()).end.text, 'b');
  t.deepEqual(
    loads.map(({ permission }) => permission),
    ['a', 'b'],
  );
  service.allow(null);
  t.deepEqual(registry.list(), []);
  t.is((await open()).end.code, 'unknown-service');
  await carryOn(pair);
  t.is(first.end.code, null);
  t.deepEqual(
    servers.map(({ isStopped }) => isStopped),
    [false, false],
  );
  await service.stop();
  t.deepEqual(
    servers.map(({ isStopped }) => isStopped),
    [true, true],
  );
});

test('code that comes behind the stop serves nobody, and is stopped', async (t) => {
  const { pair, loads, service, open } = setUp();
  const server = new Namer('late');
  service.allow('a');
  service.start();
  const { end } = await open();
  const stopped = service.stop();
  loads[0]?.result.resolve(server);
  await stopped;
  await carryOn(pair);
  t.true(server.isStopped);
  t.deepEqual(end, { code: 'internal', text: '' });
  t.is((await open()).end.code, 'internal');
  t.is(loads.length, 1);
});

test('a stream that has gone by the time the code is there is not served', async (t) => {
  const { pair, loads, service, open } = setUp();
  let servedCount = 0;
  service.allow('a');
  service.start();
  const { stream } = await open();
  stream.destroy();
  await carryOn(pair);
  loads[0]?.result.resolve({ serve: () => (servedCount += 1), stop: () => Promise.resolve() });
  await carryOn(pair);
  t.is(servedCount, 0);
});

test('a server that throws ends its own stream', async (t) => {
  const { pair, loads, service, failed, open } = setUp();
  service.allow('a');
  service.start();
  const { end } = await open();
  const serve = (): never => {
    throw new Error('a defect');
  };
  loads[0]?.result.resolve({ serve, stop: () => Promise.resolve() });
  await carryOn(pair);
  t.is(end.code, 'internal');
  t.deepEqual(failed, [new Error('a defect')]);
  t.is((await open()).end.code, 'internal', 'in the same session');
});

test('code that cannot be loaded is an error of the log, the stream is told no more, and the next one tries again', async (t) => {
  const { pair, loads, logged, service, open } = setUp();
  service.allow('a');
  service.start();
  const first = await open();
  loads[0]?.result.reject(new Error('/usr/lib/vproxy/x.js is not there'));
  await carryOn(pair);
  t.is(first.end.code, 'internal');
  t.like(logged, [{ level: 'error', event: 'service-failed', fields: { service: 'x' } }]);
  t.is(logged[0]?.message, 'service x cannot be served: /usr/lib/vproxy/x.js is not there');
  const second = await open();
  loads[1]?.result.resolve(new Namer('again'));
  await carryOn(pair);
  t.is(second.end.text, 'again');
  await service.stop();
});
