/** The files on the path of a byte in docs/architecture.md are those whose functions run for each message. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import inspector from 'node:inspector/promises';
import type net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket, startProxy } from '../helpers/proxies.js';
import { PROXY_PROGRAM } from '../helpers/proxy-program.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const MESSAGES = 200;
const MESSAGE_BYTES = 1000;

const LIB = fileURLToPath(new URL('../../lib', import.meta.url));

/** The files that the document lists under a heading, without their folder `lib`. */
async function listedFiles(heading: string): Promise<string[]> {
  const text = await readFile('docs/architecture.md', 'utf8');
  const section = text.split(`### ${heading}\n`)[1]?.split(/^#/m)[0] ?? '';
  return [...section.matchAll(/^\d+\. `([a-z/-]+\.ts)`/gm)].map(([, file]) => file ?? '').sort();
}

/** The files of `lib` with a function that `work` calls at least `count` times, but for asserted invariants, which do not ship. */
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
      return file.startsWith('..') || !isCalled || file === 'util/invariant.js' ? [] : [file.replace(/\.js$/, '.ts')];
    });
    return files.sort();
  } finally {
    session.disconnect();
  }
}

/** A server that reports each complete message. */
async function receiver(t: ExecutionContext, address?: net.ListenOptions) {
  let receivedBytes = 0;
  let onMessage = (): void => undefined;
  const { port } = await localServer(
    t,
    (socket) =>
      socket.on('data', ({ length }) => {
        receivedBytes += length;
        if (receivedBytes % MESSAGE_BYTES === 0) onMessage();
      }),
    address,
  );
  return { port, next: () => new Promise<void>((resolve) => (onMessage = resolve)) };
}

test('a byte passes through the files that the document lists, and no others', async (t) => {
  const folder = temporaryFolder(t);
  const at = (name: string) => path.join(folder, name);
  const [here, there] = [await receiver(t), await receiver(t, { path: at('there') })];
  const forwards = { outgoing: ['there:0'], incoming: [`here:${here.port}`] };
  const proxy = await startProxy(t, `unix-listen:${at('channel')}`, forwards);
  // The peer is another process, so its calls do not count.
  const peer = {
    channel: `unix-connect:${at('channel')}`,
    incoming: [`there:${at('there')}`],
    outgoing: [`here:${at('in')}`],
  };
  spawnVproxy(t, [JSON.stringify({ proxies: [peer] })], { script: PROXY_PROGRAM });
  await proxy.event('session-established');
  const message = Buffer.alloc(MESSAGE_BYTES, 'a');
  for (const [place, { next }, heading] of [
    [proxy.port('there'), there, 'Out'],
    [at('in'), here, 'In'],
  ] as const) {
    await eventually(() => typeof place === 'number' || existsSync(place));
    const client = localSocket(t, place);
    const pass = async (): Promise<void> => {
      const received = next();
      client.write(message);
      await received;
    };
    await pass();
    const often = async (): Promise<void> => {
      for (let left = MESSAGES; left > 0; left -= 1) await pass();
    };
    t.deepEqual(await filesCalled(MESSAGES, often), await listedFiles(heading));
  }
});
