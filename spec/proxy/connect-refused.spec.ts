/** `connect` of a `Peer` and of a `Proxy`: a program gets a stream when its peer has accepted it, and else the reason. */
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { toVproxyError } from '../../lib/errors.js';
import { connectPeer, type Peer } from '../../lib/proxy/peer.js';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { deferred } from '../../lib/util/concurrency.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, TestProxy } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { within } from '../helpers/time.js';

type Connect = (service: string) => Promise<MuxStream>;

/** Programs that have a channel at a path, where their peer connects. */
const PROGRAMS = {
  'a Proxy': async (t: ExecutionContext, path: string): Promise<Connect> => {
    const { proxy } = new TestProxy(t, `unix-listen:${path}`);
    await proxy.start();
    return (service) => proxy.connect(service);
  },
  'a Peer': async (t: ExecutionContext, path: string): Promise<Connect> => {
    const peer = deferred<Peer>();
    const server = net.createServer({ allowHalfOpen: true }, (socket) => peer.resolve(connectPeer(socket)));
    await once(server.listen(path), 'listening');
    t.teardown(async () => {
      await (await peer.promise).close();
      server.close();
    });
    return async (service) => (await peer.promise).connect(service);
  },
};

/** A program and a peer that sends frames by hand; the stream id of an OPEN that the program asks for. */
async function besideFrames(t: ExecutionContext, start: (typeof PROGRAMS)['a Proxy']) {
  const path = join(temporaryFolder(t), 'channel.sock');
  const connect = await start(t, path);
  const peer = await SocketPeer.established(path);
  t.teardown(() => peer.close());
  const open = async () => {
    peer.log.take();
    const answer = within(10_000, 'the answer', connect('slow'));
    // It may reject before it is asked for.
    answer.catch(() => undefined);
    return { answer, id: (await peer.seen(/^OPEN /)).streamId };
  };
  return { peer, open };
}

for (const [what, start] of Object.entries(PROGRAMS)) {
  test(`${what}: connect rejects with the reason of the peer`, async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'channel.sock');
    const connect = await start(t, path);
    const target = await localServer(t, echo);
    const host = new TestProxy(t, `unix-connect:${path}`, {
      incoming: [`echo:${target.port}`, `kept:${target.port}`, `few:${target.port}`, `gone:${join(folder, 'none')}`],
      policies: { kept: { isAllowed: false }, few: { streams: 1 } },
    });
    await host.start();
    const held = await connect('few');
    const reasons = {
      missing: ['unknown-service', /^service missing is not offered; the peer offers: echo, few, gone, kept$/],
      kept: ['denied', /./],
      few: ['denied', /./],
      gone: ['connect-refused', /./],
    } as const;
    for (const [service, [code, message]] of Object.entries(reasons)) {
      await t.throwsAsync(connect(service), { code, message }, service);
    }
    const stream = await connect('echo');
    stream.end('after all of that');
    t.is(await text(stream), 'after all of that');
    held.destroy();
  });

  test(`${what}: connect gives no stream before the answer, and what the peer sends with it is there`, async (t) => {
    const { peer, open } = await besideFrames(t, start);
    const { answer, id } = await open();
    let isThere = false;
    void answer.then(() => (isThere = true));
    await peer.ping();
    t.false(isThere);
    const data = [FRAME_TYPE.DATA, id, Buffer.from('at once')] as const;
    peer.write(Buffer.concat([peer.frame(FRAME_TYPE.ACCEPT, id), peer.frame(...data), peer.frame(FRAME_TYPE.FIN, id)]));
    t.is(await text(await answer), 'at once');
  });

  test(`${what}: connect rejects where the session ends before an answer, and where it is lost`, async (t) => {
    const { peer, open } = await besideFrames(t, start);
    const { answer } = await open();
    peer.send(FRAME_TYPE.GOAWAY, 0, { code: 'internal', message: 'a defect', last: 0 });
    await t.throwsAsync(answer, { code: 'internal' });
    const lost = await besideFrames(t, start);
    const { answer: never } = await lost.open();
    lost.peer.close();
    await t.throwsAsync(never, { code: 'channel-closed' });
  });

  test(`${what}: a reset in one piece with the answer rejects, and ends no program`, async (t) => {
    const { peer, open } = await besideFrames(t, start);
    const { answer, id } = await open();
    const reset = { code: 'stalled', message: 'not today' };
    peer.write(Buffer.concat([peer.frame(FRAME_TYPE.ACCEPT, id), peer.frame(FRAME_TYPE.RESET, id, reset)]));
    await t.throwsAsync(answer, { code: 'stalled', message: 'not today' });
  });

  test(`${what}: a reset while the program waits for something else ends it not, and is found by who reads`, async (t) => {
    const { peer, open } = await besideFrames(t, start);
    const first = await open();
    peer.send(FRAME_TYPE.ACCEPT, first.id);
    const second = await open();
    peer.send(FRAME_TYPE.RESET, first.id, { code: 'stalled', message: 'not today' });
    await peer.ping();
    await setImmediate();
    peer.send(FRAME_TYPE.ACCEPT, second.id);
    const [stream] = await Promise.all([first.answer, second.answer]);
    t.is(toVproxyError(await t.throwsAsync(text(stream))).code, 'stalled');
  });

  test(`${what}: a stop in one piece with the answer is told to the program, whose writes go nowhere`, async (t) => {
    const { peer, open } = await besideFrames(t, start);
    const { answer, id } = await open();
    const stop = { code: 'cancelled', message: 'I do not listen' };
    peer.write(Buffer.concat([peer.frame(FRAME_TYPE.ACCEPT, id), peer.frame(FRAME_TYPE.STOP, id, stop)]));
    const stream = await answer;
    const stopped = once(stream, 'stop') as Promise<[Error]>;
    await new Promise((resolve) => stream.write('a question', resolve));
    t.like((await within(10_000, 'the stop', stopped))[0], { code: 'cancelled', message: 'I do not listen' });
    peer.send(FRAME_TYPE.DATA, id, Buffer.from('an answer'));
    peer.send(FRAME_TYPE.FIN, id);
    t.is(await text(stream), 'an answer');
  });
}
