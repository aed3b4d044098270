import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { failureOf, type ProxySetup, proxyPair, readToEnd } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** Two proxies: `a` listens, `b` appends to `file`. */
const logging = (t: ExecutionContext, file: string, options = '', b: ProxySetup = {}) =>
  proxyPair(t, { targets: `log:file:${file}${options}`, b });

async function writeAll(socket: net.Socket, text: Iterable<string>): Promise<void> {
  const ended = readToEnd(socket);
  for (const piece of text) if (!socket.write(piece)) await once(socket, 'drain');
  socket.end();
  await ended;
}

test('100,000 syslog lines over eight streams arrive complete, whole, and in the order of their stream', async (t) => {
  const file = join(temporaryFolder(t), 'vm1.log');
  const { connect } = await logging(t, file, ',rotate=1M,keep=20');
  const [streams, lines] = [8, 12_500];
  function* pieces(stream: number) {
    let text = '';
    for (let number = 0; number < lines; number += 1) {
      text += `<13>Oct 11 22:14:15 vm1 app[${stream}]: ${number} ${'m'.repeat((number * 7) % 90)}\n`;
      // Neither pieces nor frames end at line boundaries.
      const cut = (number * 131) % 1500;
      if (text.length < 1500) continue;
      yield text.slice(0, cut);
      text = text.slice(cut);
    }
    yield text;
  }
  await Promise.all(Array.from({ length: streams }, (_, stream) => writeAll(connect(), pieces(stream))));
  const files = readdirSync(join(file, '..')).sort(
    (a, b) => Number(b.split('.')[2] ?? 0) - Number(a.split('.')[2] ?? 0),
  );
  t.true(files.length > 5);
  const next = Array.from({ length: streams }, () => 0);
  for (const name of files) {
    const text = readFileSync(join(file, '..', name), 'latin1');
    t.true(text.length <= 2 ** 20 && text.endsWith('\n'));
    for (const line of text.slice(0, -1).split('\n')) {
      const [, stream = '', number = '', rest = ''] =
        /^<13>Oct 11 22:14:15 vm1 app\[(\d)\]: (\d+) (m*)$/.exec(line) ?? [];
      if (stream === '' || next[Number(stream)] !== Number(number) || rest.length !== (Number(number) * 7) % 90) {
        t.fail(`unexpected: ${line}`);
        return;
      }
      next[Number(stream)] = Number(number) + 1;
    }
  }
  const all = Array.from({ length: streams }, () => lines);
  t.deepEqual(next, all);
});

test('the file is created for its owner and group, and the last line of every stream is terminated', async (t) => {
  const file = join(temporaryFolder(t), 'vm1.log');
  writeFileSync(file, 'left by some');
  const { connect } = await logging(t, file);
  await writeAll(connect(), ['one\ntwo']);
  await writeAll(connect(), ['three\n']);
  await writeAll(connect(), []);
  t.is(readFileSync(file, 'utf8'), 'left by some\none\ntwo\nthree\n');
  const fresh = join(temporaryFolder(t), 'fresh.log');
  const other = await logging(t, fresh);
  const dying = other.connect();
  dying.write('half a li');
  await eventually(() => existsSync(fresh));
  // This process's umask may remove bits.
  t.is(statSync(fresh).mode & 0o777 & ~0o040, 0o600);
  await eventually(() => other.b.events.some(({ event }) => event === 'stream-opened'));
  dying.resetAndDestroy();
  await other.b.event('stream-reset');
  t.true(['half a li\n', ''].includes(readFileSync(fresh, 'utf8')));
});

test('rotation keeps the configured number of files', async (t) => {
  const file = join(temporaryFolder(t), 'vm1.log');
  const { connect } = await logging(t, file, ',rotate=4K,keep=2');
  const line = (number: number) => `${String(number).padStart(4, '0')} ${'x'.repeat(994)}\n`;
  for (let number = 0; number < 23; number += 1) await writeAll(connect(), [line(number)]);
  t.deepEqual(readdirSync(join(file, '..')).sort(), ['vm1.log', 'vm1.log.1', 'vm1.log.2']);
  const numbers = (name: string) => [...readFileSync(name, 'latin1').matchAll(/^(\d{4}) /gm)].map(([, n]) => Number(n));
  t.deepEqual(numbers(file), [20, 21, 22]);
  t.deepEqual(numbers(`${file}.1`), [16, 17, 18, 19]);
  t.deepEqual(numbers(`${file}.2`), [12, 13, 14, 15]);
});

test('a file that cannot be opened refuses the stream, and works as soon as it can be opened', async (t) => {
  const folder = join(temporaryFolder(t), 'later');
  mkdirSync(folder);
  const { a, connect } = await logging(t, join(folder, 'vm1.log'));
  rmdirSync(folder);
  t.is((await failureOf(connect())).code, 'ECONNRESET');
  t.regex((await a.event('stream-refused')).message, /ENOENT.*\(connect-failed\)/);
  mkdirSync(folder);
  await writeAll(connect(), ['hello\n']);
  t.is(readFileSync(join(folder, 'vm1.log'), 'utf8'), 'hello\n');
});

test('while the file cannot be written its streams wait; this is logged once, and nothing is lost', async (t) => {
  const file = join(temporaryFolder(t), 'vm1.log');
  const clock = new ManualClock();
  // A folder in place of the rotated file: renaming fails until it is removed.
  mkdirSync(`${file}.1`);
  const { b, connect } = await logging(t, file, ',rotate=64K,keep=1', { clock });
  const text = Array.from({ length: 200_000 }, (_, number) => `line ${number}\n`).join('');
  const socket = connect();
  let isDone = false;
  const done = writeAll(socket, [text]).then(() => {
    isDone = true;
  });
  await b.event('target-failed');
  for (let count = 0; count < 5; count += 1) {
    clock.advance(1000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.is(b.events.filter(({ event }) => event === 'target-failed').length, 1);
  t.false(isDone);
  t.true(statSync(file).size <= 65_536);
  rmdirSync(`${file}.1`);
  await eventually(() => {
    clock.advance(1000);
    return isDone;
  });
  await done;
  t.is(b.events.filter(({ event }) => event === 'target-recovered').length, 1);
  const kept = readFileSync(`${file}.1`, 'latin1') + readFileSync(file, 'latin1');
  t.true(text.endsWith(kept));
});

/** Whether a file system can be created here: tried in a namespace that ends with the attempt. */
const canMount = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;
const testOnSmallDisk = canMount ? test : test.skip;

testOnSmallDisk('a full disk loses no line: writing continues where it stopped', async (t) => {
  const folder = temporaryFolder(t);
  t.is(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', folder]).status, 0);
  t.teardown(() => spawnSync('umount', ['-l', folder]));
  const clock = new ManualClock();
  const file = join(folder, 'vm1.log');
  const filler = join(folder, 'filler');
  writeFileSync(filler, Buffer.alloc(200_000));
  const { b, connect } = await logging(t, file, '', { clock });
  const text = Array.from({ length: 10_000 }, (_, number) => `line ${number}\n`).join('');
  const done = writeAll(connect(), [text]);
  t.regex((await b.event('target-failed')).message, /ENOSPC/);
  writeFileSync(filler, '');
  const since = b.events.length;
  clock.advance(1000);
  await b.event('target-recovered', since);
  await done;
  t.is(readFileSync(file, 'latin1'), text);
});
