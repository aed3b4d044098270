/** Streams through a control socket, as a program sees them. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { localServer, steeredPair } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

async function collect(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** A stream to a service whose target is `handle`. */
async function streamTo(t: ExecutionContext, handle: Parameters<typeof localServer>[1]) {
  const target = await localServer(t, handle);
  const pair = await steeredPair(t, { peer: { incoming: [`x:127.0.0.1:${target.port}`] } });
  const stream = await pair.client.connect('x');
  t.teardown(() => stream.destroy());
  return { ...pair, stream };
}

test('bytes go both ways, and the end of one way does not end the other', async (t) => {
  const { stream } = await streamTo(t, (socket) => {
    let byteCount = 0;
    socket.on('data', (chunk: Buffer) => {
      byteCount += chunk.length;
    });
    socket.on('end', () => socket.end(`got ${byteCount}`));
  });
  const bytes = Buffer.alloc(3_000_000, 'x');
  stream.end(bytes);
  t.is((await collect(stream)).toString(), 'got 3000000');
});

test('a stream whose other end has ended is still written to', async (t) => {
  let got = '';
  const { stream } = await streamTo(t, (socket) => {
    socket.end('bye');
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString();
    });
    socket.on('end', () => socket.destroy());
  });
  const [bytes] = (await once(stream, 'data')) as [Buffer];
  t.is(bytes.toString(), 'bye');
  await once(stream.resume(), 'end');
  stream.end('still here');
  await once(stream, 'close');
  t.is(stream.errored, null);
  await eventually(() => got === 'still here');
});

for (const hasEnded of [false, true]) {
  test(`a reset is an error with its code, also ${hasEnded ? 'after' : 'before'} the end of this side`, async (t) => {
    const { stream } = await streamTo(t, (socket) => {
      socket.write('x');
      const reset = () => socket.resetAndDestroy();
      if (hasEnded) socket.resume().once('end', reset);
      else socket.once('data', reset);
    });
    await once(stream, 'data');
    stream.on('data', () => undefined);
    if (hasEnded) stream.end();
    else stream.write('now');
    const [error] = (await once(stream, 'error')) as [Error];
    t.like(error, { code: 'local-error' });
    t.regex(error.message, /ECONNRESET/);
  });
}

test('a service that is not there, and a channel that is not', async (t) => {
  const { client } = await steeredPair(t);
  await t.throwsAsync(client.connect('none'), { code: 'unknown-service' });
  await t.throwsAsync(client.connect('none', { channel: 'vm9' }), { code: 'not-found' });
});

test('a stream that is given up is reset as soon as more comes', async (t) => {
  const { stream, here } = await streamTo(t, (socket) => {
    const more = (): void => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
    };
    more();
    socket.on('drain', more);
  });
  await once(stream, 'data');
  stream.destroy();
  const event = await here.event('stream-reset');
  t.is(event.fields['service'], 'x');
});
