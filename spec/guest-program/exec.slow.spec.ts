/** What commands and callers may do to vproxy-guest, and what it keeps from them: the service exec, called by records. */
import { chmodSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { EXEC_KIND, type ExecRequest, encodeStart } from '../../lib/services/exec/exec-messages.js';
import { encodeRecord, encodeRecordHeader } from '../../lib/util/bytes/records.js';
import { testWriters } from '../exec/writers.js';
import { checkUsage, ExecCaller, TestRunner } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { startProxy } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';
import { AS_GUEST, buildGuest, GUEST } from './build.js';

const withGo = serialTestWith('go');

buildGuest();

/** A host in this process, with a guest that runs commands. */
async function start(t: ExecutionContext, launcher: readonly string[] = [], permission = '--allow-exec') {
  const path = join(temporaryFolder(t), 'channel');
  const host = await startProxy(t, `unix-listen:${path}`);
  // Another user may be the guest's.
  for (const each of [dirname(path), path, dirname(GUEST)]) chmodSync(each, 0o777);
  const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`, permission], { ...AS_GUEST, launcher });
  await host.event('session-established');
  const open = () => host.proxy.connect('exec');
  const call = async (request: Partial<ExecRequest>) => new ExecCaller(await open()).start({ argv: [], ...request });
  const output = async (...argv: readonly string[]): Promise<string> => {
    const caller = await call({ argv });
    await caller.exit;
    return caller.stdout;
  };
  return { guest, open, call, output };
}

testWriters(withGo, async (t) => (await start(t)).open);

const inNamespace = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'];
/** A first process that reaps nobody. */
const idle = [...inNamespace, 'sh', '-c', '"$@" & exec sleep 1000', 'sh'];

for (const [where, launcher] of [
  ['as the first process', inNamespace],
  ['where the first process reaps nobody', idle],
] as const) {
  serialTestWith('go', 'root')(`${where}, a timeout holds, and no zombie is left`, async (t) => {
    const { call, output } = await start(t, launcher);
    const argv = ['sh', '-c', 'sleep 1000 & setsid sleep 0.2 & sleep 1000; :'];
    const calls = await Promise.all([1, 2, 3].map(() => call({ argv, timeoutMs: 100, killAfterMs: 100 })));
    for (const { exit } of calls) t.like(await exit, { timedOut: true, signal: 'SIGTERM' });
    // One of its own children is never among them.
    const zombies = 'cat /proc/[0-9]*/stat | cut -d" " -f3 | grep -c Z; exit 7';
    await eventually(async () => (await output('sh', '-c', zombies)) === '0\n');
    const statuses = await Promise.all(
      Array.from({ length: 50 }, async () => (await (await call({ argv: ['sh', '-c', 'exit 7'] })).exit).status),
    );
    t.deepEqual(new Set(statuses), new Set([7]));
  });
}

for (const [what, timeoutMs, script, shown] of [
  ['zombie of another session stays in the group', 2000, '(sleep 0.1 & exec setsid sleep 30) & exec sleep 1000', /^$/],
  [
    'process of another session writes on',
    300,
    'setsid sh -c "while echo x; do sleep 0.05; done" 2> /dev/null & echo begin; exec sleep 1000',
    /begin/,
  ],
] as const) {
  withGo(`a timeout holds, although a ${what}`, async (t) => {
    const { call } = await start(t);
    const caller = await call({ argv: ['sh', '-c', script], timeoutMs, killAfterMs: 200 });
    t.like(await caller.exit, { timedOut: true, signal: 'SIGTERM' });
    t.regex(caller.stdout, shown);
  });
}

const asOther = ['prlimit', '--nproc=64', '--', 'setpriv', '--reuid=54321', '--regid=54321', '--clear-groups', '--'];

serialTestWith('go', 'root')(
  'where no process can be made, commands are refused, and the program continues',
  async (t) => {
    const { call, output } = await start(t, asOther);
    const full = await call({
      argv: ['sh', '-c', 'trap "echo full; exec sleep 1000" EXIT; while sleep 1000 & do :; done'],
    });
    await eventually(() => full.stdout === 'full\n', { what: 'as many processes as the user may have' });
    const calls = await Promise.all(Array.from({ length: 300 }, () => call({ argv: ['sleep', '1000'] })));
    for (const { exit } of calls) {
      const { error } = await exit;
      t.is(error?.code, 'command-failed');
      t.regex(error?.message ?? '', /\/sleep: resource temporarily unavailable \(EAGAIN\)$/);
    }
    full.signal('SIGKILL');
    t.is((await full.exit).signal, 'SIGKILL');
    t.is(await output('echo', 'hello'), 'hello\n');
  },
);

withGo(
  'R-EXEC-2: of 1,000 commands at once, each with input, all run that wait, and of others none is lost',
  async (t) => {
    const { call } = await start(t);
    const bytes = Buffer.alloc(20_000, 'x');
    const results = async (wait: boolean) => {
      const calls = await Promise.all(Array.from({ length: 1000 }, () => call({ argv: ['wc', '-c'], wait })));
      const ends = calls.map(async (caller) => {
        if (wait) await caller.started;
        const { error } = await caller.input(bytes).endInput().exit;
        return error?.code ?? caller.stdout;
      });
      return new Set(await Promise.all(ends));
    };
    t.deepEqual(await results(true), new Set(['20000\n']));
    const found = await results(false);
    found.delete('too-many-streams');
    t.deepEqual(found, new Set(['20000\n']));
  },
);

const terminal = (fields: string) => `{"argv":[],"terminal":{${fields}}}`;

/** Payloads of a START that are not valid, as latin1. */
const BAD_STARTS = [
  ...['', 'x', '[]', 'null', '{', '{}{}', '{"argv":["\xff"]}', '{"argv":["\\ud800"]}', '{"argv":["\\udc00\\ud800"]}'],
  ...['{"argv":["\\ud83d\\ude00\\\\\\udfff"]}', '{"argv":["a"],"env":{"\\udc41":""}}', `{"argv":[${'['.repeat(1000)}`],
  ...[
    `{"argv":[${'1,'.repeat(70_000)}1]}`,
    '{}',
    '{"argv":null}',
    '{"argv":"ls"}',
    '{"argv":["a",1]}',
    '{"argv":[null]}',
  ],
  ...['{"argv":["a\\u0000b"]}', '{"argv":[],"cwd":1}', '{"argv":[],"cwd":"\\u0000"}', '{"argv":[],"user":[]}'],
  ...['{"argv":[],"env":[]}', '{"argv":[],"env":{"A":1}}', '{"argv":[],"env":{"A":null}}'],
  ...['{"argv":[],"env":{"A\\n":"\\u0000"}}', '{"argv":[],"env":{"A=B":"1"}}', '{"argv":[],"env":{"":"1"}}'],
  ...['{"argv":[],"terminal":7}', terminal('"columns":0,"rows":1,"term":"x"'), terminal('"columns":1,"rows":1')],
  ...[terminal('"columns":1,"rows":65536,"term":"x"'), terminal('"columns":"80","rows":1.5,"term":"x"')],
  ...[
    '{"argv":[],"hasInput":1}',
    '{"argv":[],"wait":1}',
    '{"argv":[],"timeoutMs":-1}',
    '{"argv":[],"timeoutMs":2147483648}',
  ],
  ...['{"argv":[],"killAfterMs":"5"}', '{"argv":[],"killAfterMs":1e400}', '{"argv":[],"detach":1}'],
  ...['{"argv":[],"detach":{"tag":1}}', `{"argv":[],"detach":{"tag":"${'x'.repeat(65)}"}}`],
  ...['{"argv":[],"detach":{"keepBytes":-1}}', '{"argv":[],"detach":{"keepBytes":16777217}}'],
  '{"argv":[],"detach":{"unique":1}}',
];

const BAD_ATTACHES = [
  ...['{}', '{"id":1}', '{"id":"x","from":-1}', '{"id":"x","from":0,"tail":0}', '{"id":"x","tail":"1"}', '\xff'],
  ...['{"id":"x","input":1}', '{"id":"x","steal":1}', '{"id":"x","steal":true}', '{"id":"x","input":true,"rows":1}'],
  ...['{"id":"x","columns":1}', '{"id":"x","columns":1,"rows":1}', '{"id":"x","input":true,"columns":1,"rows":65536}'],
];

withGo('R-EXEC-1: vproxy and vproxy-guest refuse the same requests in the same words', async (t) => {
  const runner = new TestRunner(t);
  const { open, output } = await start(t);
  const records = [
    ...BAD_STARTS.map((text) => encodeRecord(EXEC_KIND.START, Buffer.from(text, 'latin1'))),
    ...BAD_ATTACHES.map((text) => encodeRecord(EXEC_KIND.ATTACH, Buffer.from(text, 'latin1'))),
    ...['{}', '', '{"id":"\\u0000"}'].map((text) => encodeRecord(EXEC_KIND.STOP, text)),
    encodeRecordHeader(EXEC_KIND.START, 1_048_577),
    encodeRecordHeader(EXEC_KIND.STOP, 4097),
    encodeRecordHeader(EXEC_KIND.LIST, 1),
  ];
  for (const record of records) {
    const callers = [runner.open().caller, new ExecCaller(await open())];
    for (const { stream } of callers) stream.write(record);
    const [expected, found] = await Promise.all(callers.map(async ({ exit }) => (await exit).error));
    t.deepEqual([found, found?.code], [expected, 'bad-argument'], record.toString('latin1', 5, 80));
  }
  t.is(await output('echo', 'hello'), 'hello\n');
});

withGo('a signal gets past 70,000 records of input that the command does not read', async (t) => {
  const { call } = await start(t);
  const caller = await call({ argv: ['sleep', '1000'] });
  const record = encodeRecord(EXEC_KIND.STDIN, 'x');
  caller.stream.write(Buffer.concat(Array.from({ length: 70_000 }, () => record)));
  caller.signal('SIGTERM');
  t.like(await caller.exit, { signal: 'SIGTERM' });
});

withGo('incomplete requests hold up no others, within 16 MiB', async (t) => {
  const { open, output } = await start(t);
  const begin = async (bytes: number) => {
    const stream = await open();
    stream.on('error', () => undefined).resume();
    stream.write(Buffer.concat([encodeRecordHeader(EXEC_KIND.START, bytes), Buffer.from('{')]));
    return stream;
  };
  const streams = await Promise.all(Array.from({ length: 100 }, () => begin(100_000)));
  t.is(await output('echo', 'hello'), 'hello\n');
  t.deepEqual(
    streams.filter(({ destroyed }) => destroyed),
    [],
  );
  const beyond = await Promise.all(Array.from({ length: 10 }, async () => new ExecCaller(await open())));
  for (const { stream } of beyond) stream.write(encodeRecordHeader(EXEC_KIND.START, 1_000_000));
  const { error } = await Promise.race(beyond.map(({ exit }) => exit));
  t.is(error?.code, 'too-many-streams');
  t.regex(error?.message ?? '', /^no room for a START of 1000000 bytes: others use \d+ of 16777216$/);
  for (const stream of [...streams, ...beyond.map(({ stream }) => stream)]) stream.destroy();
  const large = new ExecCaller(await open());
  large.stream.write(encodeStart({ argv: ['true', 'x'.repeat(100_000)] }));
  t.is((await large.exit).status, 0);
});

withGo('with a list of programs, only these run, whatever they are called', async (t) => {
  const { call, guest } = await start(t, [], '--allow-exec=/bin/echo,/nonexistent/x');
  for (const [name, ...expected] of [
    ['echo', 'hello\n'],
    ['/usr/../bin/echo', 'hello\n'],
    ['sh', '', 'sh: not an allowed program'],
  ]) {
    const caller = await call({ argv: [name ?? '', 'hello'] });
    const { error } = await caller.exit;
    t.deepEqual([caller.stdout, ...(error === null ? [] : [error.message])], expected, name);
  }
  const caller = await call({ argv: ['echo'], env: { LD_PRELOAD: '/x' } });
  t.is((await caller.exit).error?.code, 'command-denied');
  await guest.waitForLine(/allowed command \/nonexistent\/x: does not exist/);
});

withGo('a script without #! is one of the shell', async (t) => {
  const { output } = await start(t);
  const script = join(temporaryFolder(t), 'script');
  writeFileSync(script, 'echo "$0 $1"\n');
  chmodSync(script, 0o755);
  t.is(await output(script, 'a b'), `${script} a b\n`);
});

withGo('commands do not inherit what its starter left open', async (t) => {
  const { output } = await start(t, ['sh', '-c', 'exec "$@" 7</dev/null 9</dev/null', 'sh']);
  t.is(await output('ls', '/proc/self/fd'), '0\n1\n2\n3\n');
});

withGo('at SIGTERM, callers and the log are told how commands end that ignore it', async (t) => {
  const { guest, call } = await start(t);
  const caller = await call({ argv: ['sh', '-c', 'trap "" TERM; echo begin; sleep 1000; :'] });
  await eventually(() => Promise.resolve(caller.stdout === 'begin\n'));
  guest.kill('SIGTERM');
  t.like(await caller.exit, { signal: 'SIGKILL', error: null });
  t.is((await guest.exited).code, 0);
  await guest.waitForLine(/command sh .*, PID \d+: SIGKILL, \d+ ms$/);
});

withGo('it ends at SIGTERM, although nobody reads its full stderr', async (t) => {
  // A FIFO that is full: this shell keeps it open.
  const fill =
    'mkfifo "$0" && exec 3<>"$0" && dd if=/dev/zero bs=4096 count=64 oflag=nonblock >&3 2>/dev/null; "$@" 2>&3 & P=$!; trap "kill $P" TERM; wait $P; wait $P';
  const { guest } = await start(t, ['sh', '-c', fill, join(temporaryFolder(t), 'fifo')]);
  guest.kill('SIGTERM');
  t.is((await guest.exited).code, 0);
});

const TERMINAL = { columns: 80, rows: 24, term: 'dumb' };

/** Like a shell, drops what was typed before it is ready. */
const LATE = 'import sys, termios; termios.tcflush(0, termios.TCIFLUSH); print("ready", flush=True); sys.stdin.read()';

serialTestWith('go', 'python')(
  'the end of input ends a program in a terminal that drops what was typed before',
  async (t) => {
    const { call } = await start(t);
    const caller = await call({ argv: ['python3', '-c', LATE], terminal: TERMINAL });
    caller.endInput();
    t.like(await caller.exit, { status: 0, signal: null });
    t.true(caller.stdout.includes('ready'));
  },
);

const withoutDevpts = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /dev/pts && exec "$@"', 'sh'];

serialTestWith('go', 'root')('without devpts, the file that is missing is named', async (t) => {
  const { call } = await start(t, withoutDevpts);
  const { error } = await (await call({ argv: ['true'], terminal: TERMINAL })).exit;
  t.regex(error?.message ?? '', /^cannot open a terminal: \/dev\/(?:ptmx|pts\/\d+): no such /);
});

withGo('the end tells what a command used, with the processes that it waited for', async (t) => {
  const { call } = await start(t);
  await checkUsage(t, async (argv) => (await call({ argv })).exit);
});
