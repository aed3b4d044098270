/** A service whose code is loaded when it is allowed: when it loads, what happens to streams meanwhile, and what ends. */
import test from 'ava';
import { toVproxyError } from '../../lib/errors.js';
import type { LogEvent } from '../../lib/events.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { BuiltInService, type StreamServer } from '../../lib/services/built-in.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { type Deferred, deferred } from '../../lib/util/concurrency.js';
import { carryOn, SessionPair } from '../helpers/session-pair.js';

/** A side b with a service `x` that is allowed and started, whose code loads when the test says so; a opens streams to it. */
function setUp(permission: string | null = 'a') {
  const pair = new SessionPair();
  const failed: unknown[] = [];
  const registry = new ServiceRegistry({ onFailed: (_stream, error) => failed.push(error) });
  pair.b.onSession = (session) => (session.server = registry);
  pair.establish();
  /** The permissions with which a server was created. */
  const loads: string[] = [];
  const results: Deferred<StreamServer<string>>[] = [];
  const logged: LogEvent[] = [];
  const service = new BuiltInService<string>({
    name: 'x',
    registry,
    log: (event) => logged.push(event),
    load: (wanted) => {
      loads.push(wanted);
      results.push(deferred());
      return (results.at(-1) as Deferred<StreamServer<string>>).promise;
    },
  });
  service.allow(permission);
  const offeredBefore = [registry.list(), loads.length] as const;
  service.start();
  /** Completes or fails the last load. */
  const comes = async (server: StreamServer<string> | Error) => {
    if (server instanceof Error) results.at(-1)?.reject(server);
    else results.at(-1)?.resolve(server);
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
  const codeOfNext = async () => (await open()).end.code;
  return { registry, loads, comes, logged, service, failed, open, codeOfNext, offeredBefore };
}

/** Sends its permission on each stream, and keeps it open. */
class Namer implements StreamServer<string> {
  name = '';
  isStopped = false;

  allow(name: string | null): void {
    this.name = name ?? 'withdrawn';
  }

  serve(stream: MuxStream): void {
    stream.write(this.name);
  }

  stop(): Promise<void> {
    this.isStopped = true;
    return Promise.resolve();
  }
}

test('without a permission nothing is offered or loaded', async (t) => {
  const { registry, loads, service, codeOfNext } = setUp(null);
  t.deepEqual(registry.list(), []);
  t.is(await codeOfNext(), 'unknown-service');
  await service.stop();
  t.deepEqual(loads, []);
});

test('with a permission it is loaded once at the start, and earlier streams wait for it', async (t) => {
  const { loads, comes, open, offeredBefore } = setUp();
  t.deepEqual(offeredBefore, [['x'], 0], 'what is not started loads nothing');
  t.deepEqual(loads, ['a']);
  const streams = [await open(), await open(), await open()];
  streams[2]?.stream.destroy();
  await comes(new Namer());
  const texts = streams.map(({ end }) => end.text);
  t.deepEqual(texts, ['a', 'a', ''], 'the third has gone');
  t.deepEqual(loads, ['a']);
});

test('a new permission applies to later streams of the same server, and null refuses them; running work continues until the stop', async (t) => {
  const { registry, loads, comes, service, open, codeOfNext } = setUp();
  const server = new Namer();
  service.allow('b');
  await comes(server);
  const first = await open();
  t.is(first.end.text, 'b', 'it was loaded with the first permission');
  service.allow('c');
  t.is((await open()).end.text, 'c');
  service.allow(null);
  t.deepEqual(registry.list(), []);
  t.is(await codeOfNext(), 'unknown-service');
  service.allow('d');
  t.is((await open()).end.text, 'd');
  t.deepEqual([first.end.code, server.isStopped, loads], [null, false, ['a']]);
  await service.stop();
  t.true(server.isStopped);
});

test('code loaded when there is no permission any more is told so, and serves no stream', async (t) => {
  const { comes, service, open } = setUp();
  const [{ end }, server] = [await open(), new Namer()];
  service.allow(null);
  await comes(server);
  t.deepEqual([server.name, end.text, end.code], ['withdrawn', '', 'denied']);
});

test('code loaded after the stop serves no stream, and is stopped', async (t) => {
  const { loads, comes, service, open, codeOfNext } = setUp();
  const server = new Namer();
  const { end } = await open();
  const stopped = service.stop();
  await comes(server);
  await stopped;
  t.true(server.isStopped);
  t.deepEqual(end, { code: 'internal', text: '' });
  t.is(await codeOfNext(), 'internal');
  t.is(loads.length, 1);
});

test('a server that throws ends its own stream; the next stream retries code that failed to load', async (t) => {
  const { comes, failed, codeOfNext, open, logged, service } = setUp();
  const first = await open();
  await comes(new Error('/usr/lib/vproxy/x.js is not there'));
  t.is(first.end.code, 'internal');
  const message = 'service x cannot be served: /usr/lib/vproxy/x.js is not there';
  t.like(logged, [{ level: 'error', event: 'service-failed', message, fields: { service: 'x' } }]);
  const second = await open();
  const serve = (): never => {
    throw new Error('a defect');
  };
  await comes({ serve, stop: () => Promise.resolve() });
  t.is(second.end.code, 'internal');
  t.deepEqual(failed, [new Error('a defect')]);
  t.is(await codeOfNext(), 'internal', 'in the same session');
  await service.stop();
});
