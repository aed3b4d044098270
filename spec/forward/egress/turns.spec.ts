/** Input of one guest or origin server is handled in turns of the event loop: CPU time of the longest one. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EgressScene, get, OK, sceneTo, sceneToOrigin } from '../../helpers/egress.js';
import { temporaryFolder } from '../../helpers/files.js';
import { bestTurnMs } from '../../helpers/turn-time.js';

/** The limit in docs/security.md. */
const MAX_TURN_MS = 20;
/** Compiling and garbage collection cost CPU time, too: the best of several runs counts. */
const RUNS = 5;

/** Runs it several times, until all turns are short enough. */
async function inTurns(t: ExecutionContext, work: () => Promise<unknown>): Promise<void> {
  const longest = await bestTurnMs(MAX_TURN_MS, work, RUNS);
  t.log(`${longest} ms`);
  t.true(longest <= MAX_TURN_MS, `${longest} ms`);
}

const CLOSING = 'Connection: close\r\n';

test('500 refused requests in one piece are answered in order and in turns', async (t) => {
  const scene = new EgressScene(t);
  await inTurns(t, async () => {
    scene.refused.length = 0;
    const answers = await scene.say(get('denied.test').repeat(500));
    t.is(answers.match(/HTTP\/1\.1 403/g)?.length, 500);
  });
  t.is(scene.refused.length, 500);
});

test('endless informational answers take turns', async (t) => {
  const { scene } = await sceneToOrigin(t, { answers: [`${'HTTP/1.1 103 x\r\n\r\n'.repeat(3000)}${OK}`] });
  await inTurns(t, async () => {
    const answers = await scene.say(get('one.test', '/', CLOSING));
    t.is(answers.match(/HTTP\/1\.1 103/g)?.length, 3000);
  });
});

const CHUNKS = 10_923;
const ONE_BYTE_CHUNKS = `${'1\r\na\r\n'.repeat(CHUNKS)}0\r\n\r\n`;
const CHUNKED = 'Transfer-Encoding: chunked\r\n';

/** The data of a chunked body, and the number of its chunks. */
function readChunks(text: string): { readonly data: string; readonly count: number } {
  const pieces: string[] = [];
  for (let at = 0; ; ) {
    const lineEnd = text.indexOf('\r\n', at);
    const bytes = Number.parseInt(text.slice(at, lineEnd), 16);
    if (bytes === 0 || lineEnd === -1) return { data: pieces.join(''), count: pieces.length };
    pieces.push(text.slice(lineEnd + 2, lineEnd + 2 + bytes));
    at = lineEnd + 4 + bytes;
  }
}

for (const isUpload of [true, false]) {
  test(`64 KiB of chunks of one byte ${isUpload ? 'to' : 'from'} an origin server are passed on in few pieces and in turns`, async (t) => {
    const passed: string[] = [];
    const scene = await sceneTo(t, (socket) => {
      let text = '';
      socket.on('data', (bytes) => {
        text += bytes.toString('latin1');
        if (!text.endsWith(isUpload ? '\r\n0\r\n\r\n' : '\r\n\r\n')) return;
        if (isUpload) passed.push(text);
        socket.end(isUpload ? OK : `HTTP/1.1 200 OK\r\n${CHUNKED}\r\n${ONE_BYTE_CHUNKS}`);
      });
    });
    const words = isUpload
      ? `${get('one.test', '/', `${CLOSING}${CHUNKED}`).replace('GET', 'POST')}${ONE_BYTE_CHUNKS}`
      : get('one.test', '/', CLOSING);
    await inTurns(t, async () => {
      const answer = await scene.say(words);
      if (!isUpload) passed.push(answer);
    });
    t.true(passed.length > 0);
    for (const text of passed) {
      const { data, count } = readChunks(text.slice(text.indexOf('\r\n\r\n') + 4));
      t.true(data === 'a'.repeat(CHUNKS));
      t.true(count <= CHUNKS / 100, `${count} pieces`);
    }
  });
}

/** A process that answers 30 connections when it is told to, and then makes the file of its last argument. */
const ORIGIN = `
const sockets = [];
const server = require('net').createServer((socket) => {
  socket.on('error', () => undefined);
  socket.once('data', () => {
    sockets.push(socket);
    if (sockets.length === 30) process.send('all');
  });
});
server.listen(0, '127.0.0.1', () => process.send(server.address().port));
process.on('message', (answer) => {
  for (const socket of sockets.splice(0)) socket.end(answer, 'latin1');
  require('fs').writeFileSync(process.argv.at(-1), '');
});
process.on('disconnect', () => process.exit());
`;

test.serial('the longest heads of 30 origin servers that answer in the same turn are read in turns', async (t) => {
  const written = join(temporaryFolder(t), 'written');
  const origin = spawn(process.execPath, ['-e', ORIGIN, written], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  t.teardown(() => origin.kill('SIGKILL'));
  const [port] = (await once(origin, 'message')) as [number];
  const scene = new EgressScene(t, { routes: { 'one.test:80': port } });
  await inTurns(t, async () => {
    const answers = Array.from({ length: 30 }, () => scene.say(get('one.test', '/', CLOSING)));
    await once(origin, 'message');
    origin.send(`HTTP/1.1 200 OK\r\n${`X: ${'x'.repeat(60)}\r\n`.repeat(950)}Content-Length: 0\r\n\r\n`);
    // This process looks at none of them before all have answered.
    while (!existsSync(written)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    rmSync(written);
    for (const text of await Promise.all(answers)) t.true(text.startsWith('HTTP/1.1 200 OK'));
  });
});
