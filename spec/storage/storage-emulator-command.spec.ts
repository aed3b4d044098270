/** `vproxy storage-emulator`. */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { attachPort, peerAt, startGuest } from '../helpers/storage-setup.js';

const COMMAND = fileURLToPath(new URL('../../cli/vproxy.js', import.meta.url));
const REPLIES = fileURLToPath(new URL('../../../spec/fixtures/storage-replies.json', import.meta.url));

/** Starts the command; `lines` yields its log. */
function start(t: ExecutionContext, ...args: string[]) {
  const child = spawn(process.execPath, [COMMAND, 'storage-emulator', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const status = new Promise<number | null>((resolve) => child.once('close', resolve));
  let stdout = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  const lines = createInterface(child.stderr)[Symbol.asyncIterator]();
  const line = async () => ((await lines.next()) as IteratorResult<string, undefined>).value;
  return { child, line, status, stdout: () => stdout };
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test.serial(`it listens, says where, answers, and ends with ${signal}`, async (t) => {
    const { child, line, status, stdout } = start(t, '--replies', REPLIES, '--listen', '127.0.0.1:0');
    const port = Number(/^storage emulator listening on 127\.0\.0\.1:(\d+)$/.exec((await line()) ?? '')?.[1]);
    t.true(port > 0);
    const guest = await startGuest(t, { peer: peerAt(port) });
    t.regex((await guest.call('/c0', 'show')).stdout.toString(), /Product Name = AVAGO MegaRAID/);
    t.is((await guest.call('/c7', 'show')).status, 2);
    t.is(await line(), 'storage call: /usr/sbin/storcli64 /c0 show');
    child.kill(signal);
    t.is(await status, 0);
    t.is(stdout(), '');
  });
}

test.serial('it dials, and says so', async (t) => {
  const guest = await startGuest(t);
  const port = await attachPort(t, guest.broker);
  const { line } = start(t, '--replies', REPLIES, '--dial', `127.0.0.1:${port}`);
  t.is(await line(), `storage emulator connected to 127.0.0.1:${port}`);
  t.is((await guest.call('--version')).status, 0);
});

test.serial('it listens at several addresses, paths among them', async (t) => {
  const path = join(temporaryFolder(t), 'emulator.sock');
  const { line } = start(t, '--replies', REPLIES, '--listen', path, '--listen', '[::1]:0');
  t.is(await line(), `storage emulator listening on ${path}`);
  t.regex((await line()) ?? '', /^storage emulator listening on \[::1\]:\d+$/);
});

test.serial('a bad file ends it with 65 and the entry that is wrong', async (t) => {
  const path = join(temporaryFolder(t), 'replies.json');
  await writeFile(path, '{"replies":[{"argv":["s"],"status":"1"}]}');
  const { line, status } = start(t, '--replies', path);
  t.is(await line(), `vproxy: error: ${path}: replies[0].status is no integer from 0 to 255`);
  t.is(await status, 65);
});

for (const [option, value] of [
  ['--listen', 'nowhere'],
  ['--dial', '127.0.0.1:70000'],
  ['--dial', 'relative/path'],
  ['--listen', '::1:80'],
] as const) {
  test.serial(`${option} ${value} ends it with 64`, async (t) => {
    const { line, status } = start(t, '--replies', REPLIES, option, value);
    t.regex(
      (await line()) ?? '',
      /^vproxy: error: --(listen|dial) takes ADDR:PORT or an absolute path: ".*" is not HOST:PORT/,
    );
    t.is(await status, 64);
  });
}

test.serial('an address that is taken ends it with 69', async (t) => {
  const guest = await startGuest(t);
  const { line, status } = start(t, '--replies', REPLIES, '--listen', guest.path);
  const message = (await line()) ?? '';
  t.true(message.startsWith(`vproxy: error: cannot listen on ${guest.path}: it is taken by `), message);
  t.is(await status, 69);
});
