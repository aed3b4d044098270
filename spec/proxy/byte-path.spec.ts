/** The files on the path of a byte in docs/architecture.md are those whose functions run for each message. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import inspector from 'node:inspector/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket, startProxy } from '../helpers/proxies.js';

const MESSAGES = 200;
const MESSAGE_BYTES = 1000;

const LIB = fileURLToPath(new URL('../../lib', import.meta.url));

/** The files that the document lists under a heading, without their folder `lib`. */
async function listedFiles(heading: string): Promise<string[]> {
  const text = await readFile('docs/architecture.md', 'utf8');
  const section = text.split(`### ${heading}\n`)[1]?.split(/^#/m)[0] ?? '';
  return [...section.matchAll(/^\d+\. `([a-z/-]+\.ts)`/gm)].map(([, file]) => file ?? '').sort();
}

/** The files of `lib` with a function that `work` calls at least `count` times. */
async function filesCalled(count: number, work: () => Promise<void>): Promise<string[]> {
  const session = new inspector.Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
    await work();
    const { result } = await session.post('Profiler.takePreciseCoverage');
    const files = result.flatMap(({ url, functions }) => {
      if (!url.startsWith('file:')) return [];
      const file = path.relative(LIB, fileURLToPath(url));
      const isCalled = functions.some(({ ranges }) => (ranges[0]?.count ?? 0) >= count);
      return file.startsWith('..') || !isCalled ? [] : [file.replace(/\.js$/, '.ts')];
    });
    return files.sort();
  } finally {
    session.disconnect();
  }
}

test('a byte goes through the files that the document lists, and through no other', async (t) => {
  const channel = path.join(temporaryFolder(t), 'channel.sock');
  let receivedBytes = 0;
  let onMessage = (): void => undefined;
  const { port } = await localServer(t, (socket) =>
    socket.on('data', (bytes) => {
      receivedBytes += bytes.length;
      if (receivedBytes % MESSAGE_BYTES === 0) onMessage();
    }),
  );
  const proxy = await startProxy(t, `unix-listen:${channel}`, { outgoing: ['there:0'], incoming: [`here:${port}`] });

  const peer = new Worker(new URL('./byte-path-peer.js', import.meta.url), {
    workerData: { address: `unix-connect:${channel}`, messageBytes: MESSAGE_BYTES },
  });
  t.teardown(async () => {
    peer.postMessage('stop');
    await once(peer, 'exit');
  });
  await once(peer, 'message');
  const client = localSocket(t, proxy.port('there'));
  await once(client, 'connect');

  const message = Buffer.alloc(MESSAGE_BYTES, 'a');
  const send = async (): Promise<void> => {
    const received = once(peer, 'message');
    client.write(message);
    await received;
  };
  const receive = async (): Promise<void> => {
    const received = new Promise<void>((resolve) => (onMessage = resolve));
    peer.postMessage('send');
    await received;
  };
  const often = (once: () => Promise<void>) => async (): Promise<void> => {
    for (let left = MESSAGES; left > 0; left -= 1) await once();
  };
  await send();
  await receive();
  t.deepEqual(await filesCalled(MESSAGES, often(send)), await listedFiles('Out'));
  t.deepEqual(await filesCalled(MESSAGES, often(receive)), await listedFiles('In'));
});
