import { execFile, execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { pipeOpen } from '../../lib/channel/pipe-open.js';
import { VproxyError } from '../../lib/errors.js';
import { testLinks } from '../helpers/channel-conformance.js';
import { dial, LinkRecorder, makeFolder, patiently } from '../helpers/channel-pair.js';
import { within } from '../helpers/time.js';

/** FIFOs as QEMU's pipe chardev has them, and the same seen from the guest. */
async function makeFifos(t: ExecutionContext): Promise<{ host: string; guest: string }> {
  const folder = await makeFolder(t);
  const [host, guest] = [path.join(folder, 'pipe'), path.join(folder, 'mirror')];
  execFileSync('mkfifo', [`${host}.in`, `${host}.out`]);
  await fs.symlink(`${host}.in`, `${guest}.out`);
  await fs.symlink(`${host}.out`, `${guest}.in`);
  return { host, guest };
}

/** Opens a FIFO as QEMU does: both ways, and not before vproxy. */
function openAsQemu(t: ExecutionContext, file: string): number {
  const fd = openSync(file, constants.O_RDWR | constants.O_NONBLOCK);
  t.teardown(() => closeSync(fd));
  return fd;
}

testLinks('pipe-open', async (t) => {
  const { host, guest } = await makeFifos(t);
  return { near: await dial(t, `pipe-open:${host}`), far: await dial(t, `pipe-open:${guest}:-`) };
});

test('what comes out of .out is from the guest, and what goes into .in is for it', async (t) => {
  const { host } = await makeFifos(t);
  const link = await dial(t, `pipe-open:${host}`);
  const handler = new LinkRecorder();
  link.start(handler);
  writeSync(openAsQemu(t, `${host}.out`), 'from the guest');
  await handler.received(14);
  t.is(handler.bytes.toString(), 'from the guest');
  t.true(link.write(Buffer.from('for the guest')));
  const room = Buffer.alloc(100);
  t.is(room.toString('utf8', 0, readSync(openAsQemu(t, `${host}.in`), room)), 'for the guest');
});

test('the link stays when QEMU goes, and the next QEMU gets what waits in the FIFO', async (t) => {
  const { host, guest } = await makeFifos(t);
  const near = await dial(t, `pipe-open:${host}`);
  const handler = new LinkRecorder();
  near.start(handler);
  const first = await dial(t, `pipe-open:${guest}`);
  const firstHandler = new LinkRecorder();
  first.start(firstHandler);
  first.close();
  await firstHandler.closed;
  near.write(Buffer.from('stale'));
  const next = await dial(t, `pipe-open:${guest}`);
  const nextHandler = new LinkRecorder();
  next.start(nextHandler);
  await nextHandler.received(5);
  next.write(Buffer.from('back'));
  await handler.received(4);
  t.is(handler.closings.length, 0);
});

// Serial, and so before the others: it measures the processor time of this process.
test.serial('writes that nobody takes cost no processor time', async (t) => {
  const { host } = await makeFifos(t);
  const link = await dial(t, `pipe-open:${host}`);
  link.start(new LinkRecorder());
  while (link.write(Buffer.alloc(65_536)));
  const before = process.cpuUsage();
  const beganAt = performance.now();
  await promisify(execFile)('sleep', ['0.3']);
  const { user, system } = process.cpuUsage(before);
  const usedMs = (user + system) / 1000;
  const passedMs = performance.now() - beganAt;
  t.true(usedMs < passedMs / 3, `${usedMs} of ${passedMs} ms`);
});

test('close waits for nothing but its own writes', async (t) => {
  const { host } = await makeFifos(t);
  const link = await dial(t, `pipe-open:${host}`);
  const handler = new LinkRecorder();
  link.start(handler);
  link.write(Buffer.from('last words'));
  link.close(60_000);
  t.is((await within(5000, 'close', handler.closed)).code, 'shutdown');
});

async function refuses(t: ExecutionContext, file: string, code: string, retry: boolean, says: string) {
  const error = await t.throwsAsync(pipeOpen.dial(file, patiently()), { instanceOf: VproxyError, code });
  t.is(error.row.retry, retry);
  t.true(error.message.includes(says), error.message);
}

test('FIFOs that are missing are waited for; anything else is refused', async (t) => {
  const folder = await makeFolder(t);
  const file = path.join(folder, 'pipe');
  await refuses(t, file, 'channel-missing', true, `${file}.out`);
  execFileSync('mkfifo', [`${file}.out`]);
  await refuses(t, file, 'channel-missing', true, `${file}.in`);
  await fs.writeFile(`${file}.in`, 'precious');
  await refuses(t, file, 'channel-unusable', false, `${file}.in is not a FIFO`);
  t.is(await fs.readFile(`${file}.in`, 'utf8'), 'precious');
});
