import { readFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import type { Link } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';
import { testEnds, testLinks } from '../helpers/channel-conformance.js';
import { dial, LinkRecorder, listen, makeFolder } from '../helpers/channel-pair.js';
import { eventually } from '../helpers/time.js';

const RELAY = fileURLToPath(new URL('../helpers/socket-relay.js', import.meta.url));

/** A link to a command that leads to a socket, and what is at the socket's other end. */
async function openPair(t: ExecutionContext): Promise<{ near: Link; far: Link }> {
  const file = path.join(await makeFolder(t), 'relay.sock');
  const accepted = deferred<Link>();
  await listen(t, `unix-listen:${file}`, { onLink: (link) => accepted.resolve(link) });
  const near = await dial(t, `exec:exec ${process.execPath} ${RELAY} ${file}`);
  const far = await accepted.promise;
  t.teardown(() => far.destroy());
  return { near, far };
}

testLinks('exec', openPair);
testEnds('exec', openPair);

/** A started link to a command. */
async function start(t: ExecutionContext, command: string) {
  const link = await dial(t, `exec:${command.replaceAll(',', ',,')}`);
  const handler = new LinkRecorder();
  link.start(handler);
  return { link, handler };
}

test('a command is one line of the shell, and a comma in it is written twice', async (t) => {
  t.is(
    parseChannel('exec:ssh -o A=b,,c host "vproxy -c stdio:",frame=4096').address,
    'ssh -o A=b,c host "vproxy -c stdio:"',
  );
  const { handler } = await start(t, 'printf "%s," a b | tr a A');
  await handler.closed;
  t.is(handler.bytes.toString(), 'A,b,');
});

for (const [command, says] of [
  ['echo last; exit 3', 'it ended with status 3'],
  ['exit 0', 'it ended with status 0'],
  ['kill -9 $$', 'SIGKILL ended it'],
  ['exec no-such-command-anywhere 2>&1', 'it ended with status 127'],
] as const) {
  test(`a command that ends is channel-closed, and the message says how: ${command}`, async (t) => {
    const { handler } = await start(t, command);
    const reason = await handler.closed;
    t.is(reason.code, 'channel-closed');
    t.true(reason.message.includes(says), reason.message);
    t.true(reason.row.retry);
    if (command.startsWith('echo')) t.is(handler.bytes.toString(), 'last\n');
  });
}

test('a command that ends and leaves a process with its output behind has ended', async (t) => {
  const file = path.join(await makeFolder(t), 'pid');
  const { handler } = await start(t, `sleep 100 & echo $! > ${file}; exit 5`);
  const reason = await handler.closed;
  t.regex(reason.message, /status 5/);
  await gone(Number(readFileSync(file, 'utf8')));
  t.pass();
});

/** Resolves when a process is gone, or is only waited for by its parent. */
async function gone(pid: number): Promise<void> {
  await eventually(
    () => {
      try {
        return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
      } catch {
        return true;
      }
    },
    { what: `the end of process ${pid}` },
  );
}

for (const how of ['close', 'destroy'] as const) {
  test(`${how} ends the command and what it started, also where they ignore SIGTERM`, async (t) => {
    const folder = await makeFolder(t);
    const file = path.join(folder, 'pids');
    const { link, handler } = await start(
      t,
      `trap "" TERM; sleep 100 & echo $! $$ > ${file}; echo up; while :; do sleep 1; done`,
    );
    await handler.received(3);
    link[how](20);
    t.is((await handler.closed).code, 'shutdown');
    const pids = (await fs.readFile(file, 'utf8')).trim().split(' ').map(Number);
    t.is(pids.length, 2);
    for (const pid of pids) await gone(pid);
  });
}

test('a command that ends at the end of its input is not signalled', async (t) => {
  const file = path.join(await makeFolder(t), 'said');
  const { link, handler } = await start(
    t,
    `trap "echo signalled > ${file}; exit" TERM; cat > /dev/null; echo ended > ${file}`,
  );
  link.write(Buffer.from('x'));
  link.close(5000);
  t.is((await handler.closed).code, 'shutdown');
  t.is((await fs.readFile(file, 'utf8')).trim(), 'ended');
});
