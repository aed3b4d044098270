/** `vproxy shell --keep` and `vproxy attach --input`, with both programs in the guest. */
import { once } from 'node:events';
import type { ExecutionContext } from 'ava';
import type { JobOfChannel } from '../../lib/status/types.js';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { type ProcessPair, processPair } from '../helpers/process-pair.js';
import { runInTerminal } from '../helpers/terminals.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually, within } from '../helpers/time.js';
import { runPiped, runVproxy, VPROXY } from '../helpers/vproxy-process.js';

buildGuest();

const CTRL_BACKSLASH = '\x1c';

for (const [name, guestOptions, needs] of [
  ['vproxy', {}, []],
  ['vproxy-guest', AS_GUEST, ['go']],
] as const) {
  const test = serialTestWith(...needs);
  const start = (t: ExecutionContext): Promise<ProcessPair> =>
    processPair(t, { guest: ['--allow-exec'], guestOptions, control: 'host' });
  const call = (pair: ProcessPair, ...words: string[]) => runVproxy(words, { env: pair.env });

  /** vproxy in a terminal of its own. */
  async function open(t: ExecutionContext, pair: ProcessPair, words: string, columns = 80) {
    const env = { ...pair.env, TERM: 'dumb', LC_ALL: 'C.UTF-8' } as Record<string, string>;
    const size = { columns, rows: 24 };
    const terminal = await runInTerminal(t, `exec ${VPROXY} ${words}`, { env, size });
    return { ...terminal, end: () => within(30_000, 'the end of a call', terminal.ended) };
  }

  async function detach(t: ExecutionContext, pair: ProcessPair, script: string, ...options: string[]): Promise<string> {
    const { code, stdout, stderr } = await call(pair, 'exec', '--detach', ...options, 'default:', 'sh', '-c', script);
    t.deepEqual([code, stderr], [0, '']);
    return stdout.trim();
  }

  const list = async (pair: ProcessPair): Promise<JobOfChannel[]> =>
    JSON.parse((await call(pair, 'jobs', '-o', 'json')).stdout) as JobOfChannel[];

  test(`${name}: a kept shell is left, comes back with its size, and is taken over`, async (t) => {
    const pair = await start(t);
    const first = await open(t, pair, 'shell --keep work default sh');
    await first.shows(/[#$] $/);
    first.type('echo a""b; stty size\r');
    await first.shows(/ab\r\n24 80\r\n/);
    first.command.resize({ columns: 100, rows: 30 });
    first.type('clear; until test "$(stty size)" = "30 100"; do sleep 0.05; done; echo re""sized\r');
    await first.shows(/resized\r\n/);
    t.regex((await call(pair, 'jobs')).stdout, /terminal, in use +sh/);
    first.type(CTRL_BACKSLASH);
    const left = await first.end();
    t.is(left.end.status, 0);
    t.regex(left.text, /vproxy: detached; come back with: vproxy shell --keep work default\r?\n$/);
    await eventually(async () => (await list(pair))[0]?.hasWriter === false, { what: 'its end' });
    const second = await open(t, pair, 'shell --keep work default', 90);
    await second.shows(/resized\r\n/);
    const refused = await (await open(t, pair, 'shell --keep work default')).end();
    t.is(refused.end.status, 125);
    t.regex(refused.text, /another caller writes to job \w{8}; take it over with --steal/);
    const thief = await open(t, pair, 'shell --keep work default --steal', 70);
    const robbed = await second.end();
    t.is(robbed.end.status, 125);
    t.regex(robbed.text, /another caller took over the input of job/);
    thief.type('stty size; exit 5\r');
    const { end, text } = await thief.end();
    t.is(end.status, 5);
    t.regex(text, /24 70\r\n/);
    t.like(await list(pair), [{ tag: 'work', terminal: true, takesInput: false, hasWriter: false, status: 5 }]);
    t.is((await list(pair)).length, 1);
  });

  test(`${name}: of 5 MB of output, a terminal whose vproxy is killed ten times gets every byte once`, async (t) => {
    const pair = await start(t);
    const script = 'stty raw -echo; seq 740000; head -c 1 > /dev/null; stty size; exit 3';
    const job = await detach(t, pair, script, '-t', '--keep', '16MiB');
    let all = '';
    for (let count = 1; count <= 10; count += 1) {
      const terminal = await open(t, pair, `attach --input --steal --from ${all.length} ${job}`, 80 + count);
      terminal.command.stdout.on('data', () => {
        if (terminal.text().length > 480_000) terminal.command.signal('SIGKILL');
      });
      const { end, text } = await terminal.end();
      t.is(end.signal, 'SIGKILL');
      all += text;
    }
    const last = await open(t, pair, `attach --input --steal --from ${all.length} ${job}`, 123);
    await last.shows(/(?:^|\n)740000\n$/);
    last.type('x');
    const { end, text } = await last.end();
    t.is(end.status, 3);
    const expected = `${Array.from({ length: 740_000 }, (_, index) => `${index + 1}\n`).join('')}24 123\n`;
    t.true((all + text).startsWith(expected), `${all.length} bytes, then ${text.length}`);
  });

  test(`${name}: a terminal continues with its size when the host's vproxy is back`, async (t) => {
    const pair = await start(t);
    const script = 'stty -echo; echo begin; while read -r line; do echo "got $line"; stty size; done; exit 3';
    const job = await detach(t, pair, script, '-t');
    const terminal = await open(t, pair, `attach -i ${job}`);
    await terminal.shows(/begin/);
    terminal.type('one\r');
    await terminal.shows(/got one\r\n24 80/);
    const lines = pair.guest.lines.length;
    pair.host.kill('SIGKILL');
    await pair.host.exited;
    await terminal.shows(/waiting for the job\r?\n/);
    terminal.command.resize({ columns: 111, rows: 40 });
    terminal.type('two\r');
    pair.startHost();
    await pair.established({ guest: lines });
    await terminal.shows(/got two\r\n40 111/);
    terminal.type('\x04');
    t.is((await terminal.end()).end.status, 3);
  });

  test(`${name}: the input of a job without a terminal is that of a pipe, and ends with it`, async (t) => {
    const pair = await start(t);
    const job = await detach(t, pair, 'cat; exit 3', '--input');
    t.regex((await call(pair, 'jobs')).stdout, /pipe +sh/);
    const { child, output, ended } = runPiped(t, ['attach', '--input', job], pair.env);
    child.stdin.write('one ');
    await once(child.stdout, 'data');
    t.regex((await call(pair, 'jobs')).stdout, /pipe, in use +sh/);
    child.stdin.end('two');
    t.deepEqual([(await ended).code, (await output).toString()], [3, 'one two']);
    const next = await detach(t, pair, 'cat; exit 3', '--input');
    const cut = runPiped(t, ['attach', '--input', next], pair.env);
    cut.child.stdin.write('one ');
    await once(cut.child.stdout, 'data');
    const lines = pair.guest.lines.length;
    pair.host.kill('SIGKILL');
    const { code, stderr } = await within(20_000, 'its end', cut.ended);
    t.is(code, 125);
    t.regex(stderr, /what was written last may be lost: /);
    pair.startHost();
    await pair.established({ guest: lines });
    t.like((await list(pair)).at(-1), { id: next.slice(8), takesInput: true, hasWriter: false });
    const silent = await detach(t, pair, 'exec sleep 1000');
    const refused = await call(pair, 'attach', '--input', silent);
    t.deepEqual([refused.code, refused.stderr], [125, `vproxy: error: job ${silent.slice(8)} takes no input\n`]);
  });
}
