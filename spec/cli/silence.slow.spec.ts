/** Commands that wait on a silent channel: its peer is stopped, as the processors of a paused or rebooting machine are. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { execPair } from '../helpers/process-pair.js';
import { eventually } from '../helpers/time.js';
import { runPiped } from '../helpers/vproxy-process.js';

const SILENT = /^vproxy: default has been silent for \d+ s: still waiting for an answer$/gm;
const AGAIN = /^vproxy: default answers again$/gm;

const count = (text: string, pattern: RegExp): number => text.match(pattern)?.length ?? 0;

/** A pair whose guest is stopped, and commands at its host that wait for it. */
async function startWaiting(t: ExecutionContext, ...lines: readonly (readonly string[])[]) {
  const pair = await execPair(t, ['--allow-exec', '--allow-copy', '--info', '-i', 'echo:exec:/bin/cat']);
  // The jobs are those of all peers that are known to run commands.
  await eventually(async () => (await pair.clients[0].services()).some(({ service }) => service === 'exec'));
  pair.guest.kill('SIGSTOP');
  const commands = lines.map((words) => {
    const { child, ended } = runPiped(t, words, pair.env);
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdout.resume();
    child.stdin.end();
    return { words, ended, stderr: () => stderr };
  });
  return { pair, commands };
}

test.serial('a command on a silent channel says so once, and again when it goes on', async (t) => {
  const { pair, commands } = await startWaiting(
    t,
    ['exec', '-n', 'true'],
    ['exec', '--json', '-n', 'true'],
    ['shell', '-T'],
    ['connect', 'echo'],
    ['copy', join(process.cwd(), 'package.json'), ':/dev/null/none'],
    ['info'],
    ['jobs'],
  );
  const waiting = () => commands.filter(({ stderr }) => count(stderr(), SILENT) !== 1).map(({ words }) => words[0]);
  await eventually(() => waiting().length === 0, { what: 'the lines' }).catch(() => t.deepEqual(waiting(), []));
  const [channel] = await pair.clients[0].channels();
  t.true((channel?.session?.silentMs ?? 0) >= 5000);
  pair.guest.kill('SIGCONT');
  for (const { words, ended, stderr } of commands) {
    await ended;
    t.deepEqual([count(stderr(), SILENT), count(stderr(), AGAIN)], [1, 1], `${words.join(' ')}: ${stderr()}`);
  }
  t.is((await pair.clients[0].channels())[0]?.session?.silentMs, null);
});

test.serial('a command that only waits for the end of its work says nothing', async (t) => {
  const pair = await execPair(t, ['--allow-exec']);
  t.deepEqual(await pair.exec(['-n', 'sleep', '7']), { code: 0, stdout: '', stderr: '' });
});
