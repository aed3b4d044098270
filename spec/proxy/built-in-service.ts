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

/** A side b with a service `x` whose code comes when the test says so; a opens streams to it. */
function setUp() {
  const pair = new SessionPair();
  const failed: unknown[] = [];
  const registry = new ServiceRegistry({ onFailed: (_stream, error) => failed.push(error) });
  pair.b.onSession = (session) => session.on('stream', (stream) => registry.serve(stream, session));
  pair.establish();
  const loads: { readonly permission: string; readonly result: Deferred<StreamServer> }[] = [];
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
  const loaded = async (number: number, server: StreamServer | Error) => {
    if (server instanceof Error) loads[number]?.result.reject(server);
    else loads[number]?.result.resolve(server);
    await carryOn(pair);
  };
  const open = async () => {
    const stream = MuxStream.open(pair.a.session, 'x');
    const end: { code: string | null; text: string } = { code: null, text: '' };
    stream.on('error', (error) => (end.code = toVproxyError(error).code));
    stream.on('data', (bytes: Buffer) => (end.text += bytes.toString()));
    await carryOn(pair);
    return { stream, end };
  };
  return { pair, registry, loads, loaded, logged, service, failed, open };
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
  const { registry, loads, loaded, service, open } = setUp();
  service.allow('a');
  t.deepEqual(registry.list(), ['x']);
  t.is(loads.length, 0, 'what is not started loads nothing');
  service.start();
  t.is(loads.length, 1);
  const streams = [await open(), await open(), await open()];
  streams[2]?.stream.destroy();
  await loaded(0, new Namer('a'));
  t.deepEqual(
    streams.map(({ end }) => end.text),
    ['a', 'a', ''],
    'the third has gone',
  );
  t.is(loads.length, 1);
});

test('another permission counts for the streams to come, none for no stream; what runs goes on until the stop', async (t) => {
  const { registry, loads, loaded, service, open } = setUp();
  const [one, other] = [new Namer('a'), new Namer('b')];
  const stopped = () => [one.isStopped, other.isStopped];
  service.allow('a');
  service.start();
  await loaded(0, one);
  const first = await open();
  service.allow('a');
  t.is(loads.length, 1, 'the same one is no change');
  service.allow('b');
  await loaded(1, other);
  t.is((await open()).end.text, 'b');
  t.like(loads, [{ permission: 'a' }, { permission: 'b' }]);
  service.allow(null);
  t.deepEqual(registry.list(), []);
  t.is((await open()).end.code, 'unknown-service');
  t.is(first.end.code, null);
  t.deepEqual(stopped(), [false, false]);
  await service.stop();
  t.deepEqual(stopped(), [true, true]);
});

test('code that comes behind the stop serves nobody, and is stopped', async (t) => {
  const { loads, loaded, service, open } = setUp();
  const server = new Namer('late');
  service.allow('a');
  service.start();
  const { end } = await open();
  const stopped = service.stop();
  await loaded(0, server);
  await stopped;
  t.true(server.isStopped);
  t.deepEqual(end, { code: 'internal', text: '' });
  t.is((await open()).end.code, 'internal');
  t.is(loads.length, 1);
});

test('a server that throws ends its own stream', async (t) => {
  const { loaded, service, failed, open } = setUp();
  service.allow('a');
  service.start();
  const { end } = await open();
  const serve = (): never => {
    throw new Error('a defect');
  };
  await loaded(0, { serve, stop: () => Promise.resolve() });
  t.is(end.code, 'internal');
  t.deepEqual(failed, [new Error('a defect')]);
  t.is((await open()).end.code, 'internal', 'in the same session');
});

test('code that cannot be loaded is an error of the log, the stream is told no more, and the next one tries again', async (t) => {
  const { loaded, logged, service, open } = setUp();
  service.allow('a');
  service.start();
  const first = await open();
  await loaded(0, new Error('/usr/lib/vproxy/x.js is not there'));
  t.is(first.end.code, 'internal');
  t.like(logged, [{ level: 'error', event: 'service-failed', fields: { service: 'x' } }]);
  t.is(logged[0]?.message, 'service x cannot be served: /usr/lib/vproxy/x.js is not there');
  const second = await open();
  await loaded(1, new Namer('again'));
  t.is(second.end.text, 'again');
  await service.stop();
});
