/** The log's reader exits or does not read, or its disk is full: streams continue, memory is bounded, missing lines are counted. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { ProcessPair, processPair } from '../helpers/process-pair.js';
import { ask, echo, localServer, localSocket, refusal } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

/** Limit on the file size, in blocks: 4 or 8 KiB, depending on the shell. */
const fileLimitBlocks = 8;
const LINES = 30;

/** A program that logs 50,000 lines of 1 KB with the log of the command line, then one more on request. */
const PROGRAM = `
  import { Output } from ${JSON.stringify(join(PROJECT_ROOT, 'dist/cli/run/output.js'))};
  const output = new Output();
  const log = (message) => output.log({ level: 'info', event: 'x', message, fields: {} });
  for (let turn = 0; turn < 50_000; turn += 1) log('x'.repeat(1000));
  console.log(process.stderr.writableLength);
  process.stdin.once('data', () => log('the last one'));
`;

test('a log unread for a while costs 1 MiB and dropped lines, which are counted once it is read again', async (t) => {
  const child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM], { stdio: 'pipe' });
  t.teardown(() => child.kill('SIGKILL'));
  const [waiting] = (await once(child.stdout, 'data')) as [Buffer];
  t.true(Number(String(waiting)) < 2 ** 20 + 2000, String(waiting));
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => lines.push(line));
  const lost = await eventually(() => lines.map((line) => /warning: (\d+) log lines lost/.exec(line)).find(Boolean));
  child.stdin.write('go on');
  await eventually(() => lines.at(-1) === 'vproxy: the last one');
  t.is(lines.filter((line) => line.endsWith('xxx')).length + Number(lost[1]), 50_000);
});

test('sides whose log reader has exited (EPIPE) serve as before, and shut down in order', async (t) => {
  const target = await localServer(t, echo);
  const { host, guest } = await processPair(t, {
    host: ['-v', '-o', 'echo:0', '-o', 'gone:0'],
    guest: ['-v', '-i', `echo:${target.port}`],
  });
  const [port, gone] = [await host.listeningPort('echo'), await host.listeningPort('gone')];
  for (const side of [host, guest]) side.closeLog();
  for (let turn = 0; turn < 20; turn += 1) {
    t.is(await ask(t, port), 'hello');
    t.is(await refusal(t, gone), 'ECONNRESET');
  }
  for (const side of [guest, host]) t.deepEqual(await side.stop(), { code: 0, signal: null });
});

test('with stderr on a full disk a side serves, reconnects after its peer was killed, and shuts down in order', async (t) => {
  const path = join(temporaryFolder(t), 'echo.sock');
  const target = await localServer(t, echo);
  const host = ['-v', '-o', `echo:${path}`];
  const guest = ['-v', '-i', `echo:${target.port}`];
  const full = { logFile: '/dev/full' };
  const pair = new ProcessPair(t, { host, guest, hostOptions: full, guestOptions: full });
  const answers = () => eventually(async () => (await ask(t, path)) === 'hello');
  await answers();
  pair.guest.kill('SIGKILL');
  await pair.guest.exited;
  pair.startGuest();
  await answers();
  for (const side of [pair.host, pair.guest]) t.deepEqual(await side.stop(), { code: 0, signal: null });
});

test('a log file that can grow again has every line, or counts it as missing', async (t) => {
  const folder = temporaryFolder(t);
  const [logFile, path] = [join(folder, 'log'), join(folder, 'x.sock')];
  const host = ['-o', `x:${path}`, '--log-format', 'json', '--metrics', '127.0.0.1:0'];
  const pair = new ProcessPair(t, { host, guest: [], hostOptions: { logFile, fileLimitBlocks } });
  const readLog = () => readFileSync(logFile, 'utf8').split('\n').filter(Boolean);
  // The last lines before the first refusal, in any order: the peer offers no service x.
  const last = ['service-missing', 'metrics-listening'];
  await eventually(() => last.every((event) => readLog().some((line) => line.includes(`"${event}"`))));
  const own = readLog().length;
  const [url = ''] = /http:[^\s"]+/.exec(readLog().join('\n')) ?? [];
  const refuse = () => once(localSocket(t, path).resume(), 'end');
  for (let count = 0; count < LINES; count += 1) await refuse();
  const before = readLog();
  t.true(before.length > own && before.length < own + LINES, `${before.length}`);
  truncateSync(logFile);
  await refuse();
  // The last of the earlier refusals may be reported only now.
  const { count, lost, rest } = await eventually(() => {
    const [first = '{}', ...others] = readLog();
    const { event, fields } = JSON.parse(first) as { event?: string; fields?: { count: number } };
    const total = before.length + (fields?.count ?? 0) + others.length;
    return total === own + LINES + 1 && { count: fields?.count, lost: event, rest: others };
  });
  t.is(lost, 'log-lost');
  const page = await (await fetch(url)).text();
  t.true(page.includes(`vproxy_log_lines_lost_total{log="log"} ${count}\n`), page);
  t.true(rest.length > 0 && rest.every((line) => line.includes('"stream-refused"')), rest.join('\n'));
  t.is((await pair.host.stop()).code, 0);
});
