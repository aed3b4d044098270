/** The log's reader ends, or does not read: streams go on, and memory does not grow with what is not read. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { ENDED } from '../helpers/vproxy-process.js';

/** A program that logs 50,000 lines of 1 KB with the log of the command line, then one when it is told to. */
const PROGRAM = `
  import { Output } from ${JSON.stringify(join(PROJECT_ROOT, 'dist/cli/run/output.js'))};
  const output = new Output();
  const log = (message) => output.log({ level: 'info', event: 'x', message, fields: {} });
  for (let turn = 0; turn < 50_000; turn += 1) log('x'.repeat(1000));
  console.log(process.stderr.writableLength);
  process.stdin.once('data', () => log('the last one'));
`;

test('a log that nobody reads for a while costs 1 MiB and lines, which are counted when it is read again', async (t) => {
  const child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM], { stdio: 'pipe' });
  t.teardown(() => child.kill('SIGKILL'));
  const [waiting] = (await once(child.stdout, 'data')) as [Buffer];
  t.true(Number(String(waiting)) < 2 ** 20 + 2000, String(waiting));
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => lines.push(line));
  const lost = await eventually(() => lines.map((line) => /warning: (\d+) lines .* are lost/.exec(line)).find(Boolean));
  child.stdin.write('go on');
  await eventually(() => lines.at(-1) === 'vproxy: the last one');
  t.is(lines.filter((line) => line.endsWith('xxx')).length + Number(lost[1]), 50_000);
});

for (const side of ['host', 'guest'] as const) {
  test(`a ${side} whose log has no reader any more (EPIPE) serves as before, and ends in order`, async (t) => {
    const target = await localServer(t, echo);
    const pair = await processPair(t, {
      host: ['-v', '-o', 'echo:0', '-o', 'gone:0'],
      guest: ['-v', '-i', `echo:${target.port}`],
    });
    const [port, gone] = [await pair.host.listeningPort('echo'), await pair.host.listeningPort('gone')];
    const call = async () => {
      const socket = localSocket(t, { host: '127.0.0.1', port });
      socket.end('ping');
      t.is((await readToEnd(socket)).toString(), 'ping');
    };
    pair[side].closeLog();
    for (let turn = 0; turn < 20; turn += 1) {
      await call();
      t.is((await failureOf(localSocket(t, { host: '127.0.0.1', port: gone }))).code, 'ECONNRESET');
    }
    const other = side === 'host' ? 'guest' : 'host';
    const from = pair[other].lines.length;
    t.deepEqual(await pair[side].stop(), { code: 0, signal: null });
    await pair[other].waitForLine(ENDED, { from });
  });
}
