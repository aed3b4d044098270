/** The programs in `examples/` do what they say, by the commands of their README, with the public API alone. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { processPair } from '../helpers/process-pair.js';
import { runWrapper, WRAPPER } from '../helpers/storage.js';
import { testWith } from '../helpers/test-with.js';
import { eventually, within } from '../helpers/time.js';
import { runProgram } from '../helpers/vproxy-process.js';

const FOLDER = join(PROJECT_ROOT, 'examples');

/** The words of the README's commands, by the example that they run. */
const COMMANDS = new Map(
  [
    ...readFileSync(join(FOLDER, 'README.md'), 'utf8').matchAll(
      /^((?:node|python3) \S*examples\/([a-z-]+(?:\.py)?)(?:\.js)?.*)$/gm,
    ),
  ].map(([, words = '', name = '']) => [name, words.split(/ +/)]),
);

interface Running {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  readonly lines: string[];
  readonly code: Promise<number | null>;
  readonly line: (pattern: RegExp) => Promise<string>;
}

/** Runs the README's command for an example, with other words after the program where they are given. */
function run(t: ExecutionContext, name: string, words?: readonly string[]): Running {
  const [program = '', path = '', ...own] = COMMANDS.get(name) ?? [];
  const child = spawn(program === 'node' ? process.execPath : program, [path, ...(words ?? own)], {
    cwd: PROJECT_ROOT,
    env: { ...process.env, PYTHONPATH: join(PROJECT_ROOT, 'python/src') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const lines: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => lines.push(line));
  }
  const code = new Promise<number | null>((resolve) => child.once('close', resolve));
  return {
    child,
    lines,
    code,
    line: (pattern) => eventually(() => lines.find((line) => pattern.test(line)), { what: String(pattern) }),
  };
}

for (const [name, what, ...expected] of [
  [
    'proxy',
    'a host reaches the web server and a service of its guest, and is told what the guest does not offer',
    'vm1 is vm1, and offers: time, web',
    'web:127.0.0.1:0 answers: a page of the guest',
    /^the time over there: \d{4}-\d\d-\d\dT/,
    'refused: service ssh is not offered; the peer offers: time, web (unknown-service)',
    /^session-ended: /,
  ],
  [
    'embedded-session',
    'a program and its child speak over a pipe',
    'a session with child (vproxy)',
    'the child offers: sha256, time',
    /^the time over there: \d{4}-\d\d-\d\dT/,
    '5 sums at once: all right',
    'refused: service nothing is not offered; the peer offers: sha256, time',
  ],
] as const) {
  test(`${name}: ${what}`, async (t) => {
    const { lines, code } = run(t, name);
    t.is(await within(30_000, 'the end', code), 0, lines.join('\n'));
    for (const one of expected) {
      const isThere = lines.some((line) => (typeof one === 'string' ? line === one : one.test(line)));
      t.true(isThere, String(one));
    }
  });
}

test('storage-emulator: wrappers get its answers, by a forward that dials it or one that it dials', async (t) => {
  const listening = run(t, 'storage-emulator', ['--listen', '127.0.0.1:0']);
  const [, port = ''] = /:(\d+)$/.exec(await listening.line(/^listening on 127\.0\.0\.1:\d+$/)) ?? [];
  const folder = temporaryFolder(t);
  const guest = ['--storage-socket', join(folder, 'storage.sock')];
  symlinkSync(WRAPPER, join(folder, 'storcli64'));
  const pair = await processPair(t, { host: ['-i', `storage:127.0.0.1:${port}`], guest });
  const call = (...words: string[]) => runWrapper(folder, words);
  const show = () =>
    eventually(async () => {
      const result = await call('/c0', 'show');
      return result.status === 125 ? null : result;
    });
  const shown = await show();
  t.is(shown.stdout.toString().match(/Onln/g)?.length, 3);
  t.is((await call('/c0/e252/s1', 'spindown')).status, 0);
  t.is((await call('/c0', 'show')).stdout.toString().match(/Onln/g)?.length, 2);
  t.is((await call('/c0/e252/s1', 'spindown')).status, 1);
  t.is((await call('/c9')).status, 2);
  await pair.guest.stop();

  const dialled = await processPair(t, { host: ['-o', 'storage:127.0.0.1:0'], guest });
  const dialling = run(t, 'storage-emulator', ['--dial', `127.0.0.1:${await dialled.host.listeningPort('storage')}`]);
  await dialling.line(/^connected$/);
  t.is((await show()).status, 0);
  dialling.child.kill('SIGINT');
  t.is(await dialling.code, 0);
});

test('control-client: it says what runs, and follows what happens until the process ends', async (t) => {
  const pair = await processPair(t, {
    control: 'host',
    host: ['--name', 'host', '-o', 'echo:127.0.0.1:0'],
    guest: ['--name', 'vm1'],
  });
  const { line, code } = run(t, 'control-client', [pair.sockets[0]]);
  await line(/^vproxy \S+, process \d+$/);
  await line(/^default: established, with vm1, 0 streams$/);
  await line(/^f1: echo:127\.0\.0\.1:0, 0 streams$/);
  await line(/^listening: /);
  await pair.guest.stop();
  await line(/^session-ended: |^ended: /);
  await pair.host.stop();
  t.is(await within(20_000, 'the end', code), 0);
});

test('control-client: where nobody answers it says so, and ends with the status of the code', async (t) => {
  const { lines, code } = run(t, 'control-client', ['/nowhere.sock']);
  t.is(await code, 69);
  t.regex(lines.join('\n'), /^control-unavailable: /);
});

/** What `sandbox.ts` and `sandbox.py` write in their own forms: a list, and booleans. */
const SANDBOXES = [
  ['sandbox', '"a\\nb\\n"', 'false', 'true'],
  ['sandbox.py', "['a', 'b']", 'False', 'True'],
] as const;

for (const [name, sorted, no, yes] of SANDBOXES) {
  test(`${name}: files, commands, a terminal, a port, egress and events of a guest`, async (t) => {
    const [work, port] = [temporaryFolder(t), await freePort()];
    const config = join(temporaryFolder(t), 'sandbox.toml');
    writeFileSync(config, '[egress.internet]\nallow = []\n');
    const host = ['--config', config, '--forward-ports', String(port), '-i', 'internet:egress:'];
    const guest = ['--allow-exec', `--allow-copy=${work}`, '--announce-ports', String(port)];
    const pair = await processPair(t, { control: 'host', host, guest });
    const { lines, code } = run(t, name, [pair.sockets[0], work, String(port)]);
    t.is(await within(60_000, 'the end', code), 0, lines.join('\n'));
    const events = lines.splice(lines.findIndex((line) => line.startsWith('event ')));
    t.deepEqual(lines, [
      ...['index.html: 22 bytes', 'ENOENT', `sort: status 0, ${sorted}`],
      ...['typed', '40 120', 'line: typed', '', 'GET /: a page of the sandbox', ''],
      `192.0.2.1:443: ${no}, then ${yes}`,
    ]);
    t.is(events.length, 5);
  });
}

testWith('root')('run-vm: a second VM of a name does not take the socket of the first', async (t) => {
  const programs = temporaryFolder(t);
  const folder = join(programs, 'a,b:c');
  mkdirSync(join(folder, 'vm1'), { recursive: true });
  writeFileSync(join(folder, 'vm1/disk.img'), '');
  for (const [name, words] of [
    ['vproxy', 'echo "port:$3"'],
    ['qemu-system-x86_64', 'echo "$@"; exec sleep 100'],
  ] as const)
    writeFileSync(join(programs, name), `#!/bin/sh\n${words}\n`, { mode: 0o755 });
  // They have a /run of their own.
  const script = `mount -t tmpfs none /run; cd "$1"; coproc "$0" vm1; read -r line <&"\${COPROC[0]}"; echo "$line"
    cd vm1; timeout 10 "$0" . 2>&1; echo "status $?"; kill $!; wait; timeout 1 "$0" ./`;
  const words = ['unshare', '--mount', 'bash', '-c', script, join(FOLDER, 'run-vm'), folder];
  const PATH = `${programs}:${process.env['PATH'] ?? ''}`;
  const { stdout } = await runProgram(words, { env: { ...process.env, PATH } });
  const [first = '', refused, status, next = ''] = stdout.split('\n');
  const disk = `-drive file=${folder.replace(',', ',,')}/vm1/disk.img,format=raw,if=virtio port:/run/vm1.sock`;
  t.true(first.endsWith(disk), first);
  t.is(refused, 'run-vm: /run/vm1.sock belongs to a VM that is running');
  t.is(status, 'status 1');
  t.true(next.endsWith(disk), next);
});
