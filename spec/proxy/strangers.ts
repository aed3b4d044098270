/** What is no vproxy, or one of another form, at the other end of a channel: the line says what came, on a manual clock. */
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';
import { HelloScanner, MAGIC } from '../../lib/codec/hello.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, startProxy, type TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** After this time without an answer a line says so. */
const QUIET_MS = 5000;

/** A program that greets, and ends a connection on which anything else than its own language comes, if `isStrict`. */
async function greeter(t: ExecutionContext, greeting: string, isStrict: boolean): Promise<string> {
  const path = join(temporaryFolder(t), 'channel.sock');
  const answer = (socket: net.Socket) => socket.on('data', () => isStrict && socket.end()).write(greeting);
  await localServer(t, (socket) => void answer(socket.on('error', () => undefined)), { path });
  return path;
}

/** The lines about what answers instead of a vproxy. */
const toldOf = (side: TestProxy): string[] =>
  side.all('channel-waiting').flatMap(({ message }) => (message.startsWith('no vproxy answers on ') ? [message] : []));

/** What they send first, whether they end the connection then, and how the line shows the beginning. */
const STRANGERS = {
  'a monitor of QEMU': ['{"QMP": {"capabilities": ["oob"]}}\r\n', false, '{"QMP": {"capabilities": ["oob"]}}'],
  'a console': ['\r\nDebian GNU/Linux 12 vm1 ttyS0\r\n\r\nvm1 login: ', false, 'Debian GNU/Linux 12 vm1 ttyS0'],
  'an ssh server': ['SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n', true, 'SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3'],
} as const;

for (const [what, [greeting, isStrict, shown]] of Object.entries(STRANGERS)) {
  test(`${what}: one line says how many bytes came, and how they begin`, async (t) => {
    const clock = new ManualClock();
    const path = await greeter(t, greeting, isStrict);
    const side = await startProxy(t, `unix-connect:${path}`, { clock });
    await eventually(() => (clock.advance(QUIET_MS), toldOf(side).length > 0));
    const came = `${greeting.length} bytes came that are not vproxy's, beginning with "${shown}"`;
    t.deepEqual(toldOf(side), [`no vproxy answers on unix-connect:${path}: ${came}`]);
  });
}

test('a stranger that comes again with other words is logged once', async (t) => {
  const clock = new ManualClock();
  const path = join(temporaryFolder(t), 'channel.sock');
  let count = 0;
  const answer = (socket: net.Socket) => socket.on('data', () => socket.end()).write(`hello ${(count += 1)}\n`);
  await localServer(t, (socket) => void answer(socket.on('error', () => undefined)), { path });
  const side = await startProxy(t, `unix-connect:${path}`, { clock });
  await eventually(() => (clock.advance(QUIET_MS), count > 3 && toldOf(side).length > 0));
  t.is(toldOf(side).length, 1);
});

/** A HELLO whose header and checksum are right, but whose fields are those of another form. */
const OTHER_HELLO = Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, Buffer.from('{"speaks":[9]}'), 0)]);

test('a vproxy with another form of HELLO is called another version, whichever side listens', async (t) => {
  const clock = new ManualClock();
  const folder = temporaryFolder(t);
  const path = join(folder, 'old.sock');
  await localServer(t, (socket) => void socket.on('error', () => undefined).write(OTHER_HELLO), { path });
  const dials = await startProxy(t, `unix-connect:${path}`, { clock });
  const listens = await startProxy(t, `unix-listen:${join(folder, 'new.sock')}`, { clock });
  const old = net.connect(join(folder, 'new.sock')).on('error', () => undefined);
  t.teardown(() => old.destroy());
  old.write(OTHER_HELLO);
  for (const side of [dials, listens]) {
    await eventually(() => (clock.advance(QUIET_MS), toldOf(side).length > 0));
    t.regex(toldOf(side).join(), /: it sent a HELLO that this version cannot read: is it another version of vproxy\?$/);
  }
});

test('the rest of an earlier session is no stranger', (t) => {
  const describe = (...pieces: readonly (string | Buffer)[]) => {
    const scanner = new HelloScanner();
    for (const piece of pieces) scanner.scan(Buffer.from(piece as string));
    return scanner.stranger.describe();
  };
  t.is(describe(), null);
  t.is(describe(Buffer.alloc(100_000)), null);
  t.is(describe(encodeFrame(FRAME_TYPE.DATA, 7, Buffer.from('hello'), 0)), null);
  t.is(describe('abc'), null, 'too little to tell');
  t.is(describe(Buffer.alloc(9), 'lo', 'gin: '), '7 bytes came that are not vproxy\'s, beginning with "login:"');
});
