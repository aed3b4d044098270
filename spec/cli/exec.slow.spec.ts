/** `vproxy exec` through two real processes: what a shell, and its user, see of a command at the peer. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { encodeExit } from '../../lib/exec/exec-messages.js';
import { startControl } from '../helpers/control.js';
import { PROJECT_ROOT, sha256, staticImports, temporaryFolder } from '../helpers/files.js';
import { execPair } from '../helpers/process-pair.js';
import { connectedProxies } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { isRunning, runPiped, runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

test.serial('a command has its own output, error and status, and options end where it begins', async (t) => {
  const { exec, folder } = await execPair(t);
  writeFileSync(join(folder, 'a-file'), '');
  const listed = await exec(['ls', '-l', folder]);
  t.is(listed.code, 0);
  t.regex(listed.stdout, /^-rw.* a-file$/m);
  t.deepEqual(await exec(['--', 'sh', '-c', 'echo out; echo err >&2; exit 7']), {
    code: 7,
    stdout: 'out\n',
    stderr: 'err\n',
  });
  t.deepEqual(await exec(['default:', '-n', 'echo', '-n', '--', '-t']), { code: 0, stdout: '-- -t', stderr: '' });
  t.deepEqual(await exec(['--', 'default:']), {
    code: 127,
    stdout: '',
    stderr: 'vproxy: error: default:: command not found\n',
  });
});

test.serial('standard input goes there, and its end as well', async (t) => {
  const { exec, script, folder } = await execPair(t);
  t.deepEqual(await exec(['cat'], 'hello'), { code: 0, stdout: 'hello', stderr: '' });
  t.deepEqual(await exec(['-n', 'cat'], 'hello'), { code: 0, stdout: '', stderr: '' });
  mkdirSync(join(folder, 'from/deep'), { recursive: true });
  mkdirSync(join(folder, 'to'));
  writeFileSync(join(folder, 'from/deep/file'), 'content');
  const copied = await script('tar c -C "$WORK/from" . | $VPROXY exec tar x -C "$WORK/to"');
  t.deepEqual(copied, { code: 0, stdout: '', stderr: '' });
  t.is(readFileSync(join(folder, 'to/deep/file'), 'utf8'), 'content');
  const fromFile = await script('$VPROXY exec cat < "$WORK/from/deep/file"; $VPROXY exec wc -c < /dev/null');
  t.deepEqual(fromFile, { code: 0, stdout: 'content0\n', stderr: '' });
});

test.serial('in a condition of a shell', async (t) => {
  const { script } = await execPair(t);
  const { stdout } = await script(`
    if ! $VPROXY exec uname | grep -q Linux; then echo no; fi
    if $VPROXY exec test -e /nonexistent; then echo there; else echo "not there: $?"; fi
    $VPROXY exec sh -c 'echo both; echo both >&2' > "$WORK/one" 2>&1; sort "$WORK/one" | uniq -c | tr -s ' '`);
  t.is(stdout, 'not there: 1\n 2 both\n');
});

test.serial('200 MB of output arrive as they are, through a pipe and to a file', async (t) => {
  const { script } = await execPair(t);
  const { stdout } = await script(`
    seq -w 1 99999999 | head -c 200000000 > "$WORK/source"
    sha256sum < "$WORK/source"
    $VPROXY exec -n cat "$WORK/source" | sha256sum
    $VPROXY exec -n cat "$WORK/source" > "$WORK/copy"; sha256sum < "$WORK/copy"`);
  const [digest, ...others] = stdout.trim().split('\n');
  t.regex(digest ?? '', /^[0-9a-f]{64} /);
  t.deepEqual(others, [digest, digest]);
});

test.serial('20 MB of input arrive as they are, and one that is not read does not hang', async (t) => {
  const { exec } = await execPair(t);
  const bytes = Buffer.alloc(20_000_000, 'some bytes that repeat ');
  t.is((await exec(['sha256sum'], bytes)).stdout, `${sha256(bytes)}  -\n`);
  t.deepEqual(await exec(['head', '-c', '4'], bytes), { code: 0, stdout: 'some', stderr: '' });
  t.deepEqual(await exec(['true'], bytes), { code: 0, stdout: '', stderr: '' });
});

test.serial('what cannot be run has a line and a status', async (t) => {
  const { exec } = await execPair(t, ['--allow-exec=/usr/bin/env,/usr/bin/missing']);
  const denied = await exec(['ls']);
  t.is(denied.code, 126);
  t.regex(denied.stderr, /^vproxy: error: .*ls.*\n$/);
  t.is((await exec(['/usr/bin/missing'])).code, 127);
  t.is((await exec(['env', '--chdir', '/', 'pwd'])).stdout, '/\n');
});

test.serial('a peer that lets no commands be run, or is not there', async (t) => {
  const { exec, pair } = await execPair(t, []);
  const line = 'vproxy: error: the peer lets no commands be run (vproxy --allow-exec there)\n';
  t.deepEqual(await exec(['true']), { code: 126, stdout: '', stderr: line });
  t.is((await exec(['--channel', 'vm7', 'true'])).code, 125);
  await pair.host.stop();
  const gone = await exec(['true']);
  t.is(gone.code, 125);
  t.regex(gone.stderr, /^vproxy: error: no process answers on .*\n$/);
});

for (const [what, ends] of [
  ['leaves in order: its stream has ended before it goes', true],
  ['does not wait for ever for a peer that never ends its stream', false],
] as const) {
  test.serial(`a caller ${what}`, async (t) => {
    const folder = temporaryFolder(t);
    const [channel, socket] = [join(folder, 'c'), join(folder, 'control.sock')];
    const host = spawnVproxy(t, ['-c', `unix-listen:${channel}`, '--control', socket]);
    await host.waitForLine(TAKING_CONTROL);
    const peer = await SocketPeer.established(channel);
    t.teardown(() => peer.close());
    const { child, ended } = runPiped(t, ['exec', '-n', 'false'], { VPROXY_SOCKET: socket });
    child.stdout.resume();
    const { streamId } = await peer.seen(/^OPEN .* exec$/);
    peer.send(FRAME_TYPE.ACCEPT, streamId);
    peer.sendCredit(streamId, 65_536);
    await peer.seen(/^DATA /);
    peer.sendData(streamId, encodeExit({ status: 1, signal: null, timedOut: false, durationMs: 1, error: null }));
    if (ends) peer.send(FRAME_TYPE.FIN, streamId);
    t.deepEqual(await ended, { code: 1, stderr: '' });
    t.is((await peer.seen(/^(FIN|RESET) /)).name, ends ? 'FIN' : 'RESET');
  });
}

test.serial('without a session it waits as any connection does, and then has a status', async (t) => {
  const folder = temporaryFolder(t);
  const { a, b } = await connectedProxies(t, join(folder, 'c'), { waitMs: 0 }, {});
  const { path } = await startControl(t, a.proxy);
  await b.proxy.stop();
  await a.event('session-ended');
  const { code, stderr } = await runVproxy(['exec', '-n', 'true'], { env: { VPROXY_SOCKET: path } });
  t.is(code, 125);
  t.regex(stderr, /^vproxy: error: .*no session.*\n$/);
});

for (const [words, line] of [
  [['--colour', 'red', 'ls'], /--colour: no such option/],
  [['-x', 'ls'], /-x: no such option/],
  [['--cwd'], /--cwd: its value is missing; expected --cwd DIR/],
  [['--timeout', 'soon', 'ls'], /--timeout: "soon" is not a number of seconds/],
  [['-tT', 'ls'], /-t: cannot be used with -T/],
  [['--json', '-t', 'ls'], /-t: cannot be used with --json/],
  [['--channel', 'a', 'b:', 'ls'], /b: another channel, a, is named as well/],
  [['--env', '=x', 'ls'], /--env: "=x" has no name/],
  [['--user=', 'ls'], /--user: its value is empty/],
  [['--user', 'a', '--user', 'b', 'ls'], /--user: one is expected/],
  [['-n=yes', 'ls'], /-n: it takes no value/],
  [['--no-stdin=yes', 'ls'], /--no-stdin: it takes no value/],
] as const) {
  test.serial(`${words.join(' ')} is a failure of vproxy's own`, async (t) => {
    const { code, stdout, stderr } = await runVproxy(['exec', ...words]);
    t.deepEqual({ code, stdout }, { code: 125, stdout: '' });
    t.regex(stderr, line);
  });
}

test.serial('environment, folder and time-out', async (t) => {
  const { script } = await execPair(t);
  const { stdout } = await script(`
    export SECRET=hidden HERE=there; unset MISSING
    $VPROXY exec --env A='b c' --env HERE --env MISSING --env EMPTY= sh -c 'echo "$A|$HERE|$EMPTY|\${MISSING-none}|\${SECRET-none}"'
    $VPROXY exec --cwd /usr/bin pwd
    $VPROXY exec --timeout 0.3 sleep 60; echo $?
    $VPROXY exec --timeout 0.3 --kill-after 0.3 sh -c 'trap "" TERM; while :; do sleep 0.05; done'; echo $?
    $VPROXY exec --timeout 60 sh -c 'exit 3'; echo $?`);
  t.is(stdout, 'b c|there||none|none\n/usr/bin\n124\n124\n3\n');
});

test.serial('a signal that ends the command is in the status', async (t) => {
  const { exec } = await execPair(t);
  t.is((await exec(['sh', '-c', 'kill -KILL $$'])).code, 128 + 9);
  t.is((await exec(['sh', '-c', 'kill -USR1 $$'])).code, 128 + 10);
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const) {
  test.serial(`${signal} goes to the command, which may do with it as it likes`, async (t) => {
    const { start } = await execPair(t);
    const name = signal.slice(3);
    const text = `trap 'echo got ${name}; exit 9' ${name}; echo ready; while :; do sleep 0.05; done`;
    const { child, output, ended } = start('sh', '-c', text);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill(signal);
    t.is((await ended).code, 9);
    t.is((await output).toString(), `ready\ngot ${name}\n`);
  });
}

test.serial('a third interrupt within a second gives a command up that does not answer', async (t) => {
  const { start } = await execPair(t);
  const { child, ended } = start('sh', '-c', 'trap "" INT; echo $$; while :; do sleep 0.05; done');
  const [pid] = await new Promise<Buffer[]>((resolve) =>
    child.stdout.once('data', (chunk: Buffer) => resolve([chunk])),
  );
  for (let count = 0; count < 3; count++) child.kill('SIGINT');
  // Signals that arrive at the same time count as one.
  const again = setInterval(() => child.kill('SIGINT'), 100);
  t.teardown(() => clearInterval(again));
  t.is((await ended).code, 130);
  await eventually(() => !isRunning(Number(pid)));
});

test.serial('a caller that is killed takes its command along', async (t) => {
  const { start } = await execPair(t);
  const { child } = start('sh', '-c', 'echo $$; sleep 1000');
  const pid = await new Promise<number>((resolve) => {
    child.stdout.once('data', (chunk: Buffer) => resolve(Number(chunk.toString())));
  });
  t.true(isRunning(pid));
  child.kill('SIGKILL');
  await eventually(() => !isRunning(pid));
});

for (const [who, side] of [
  ['a peer', 'guest'],
  ['a proxy of this side', 'host'],
] as const)
  test.serial(`${who} that goes away is a failure with its reason`, async (t) => {
    const { start, pair } = await execPair(t);
    const { child, ended } = start('sh', '-c', 'echo ready; sleep 1000');
    await new Promise((resolve) => child.stdout.once('data', resolve));
    pair[side].kill('SIGKILL');
    const { code, stderr } = await ended;
    t.is(code, 125);
    t.regex(stderr, /^vproxy: error: how the command ended is not known: .*\n$/);
  });

test.serial('a reader that has gone ends the command as a pipe would', async (t) => {
  const { script, folder } = await execPair(t);
  const { stdout } = await script(`
    $VPROXY exec sh -c 'echo $$ > "$0/pid"; exec yes' "$WORK" | head -1; echo "\${PIPESTATUS[@]}"`);
  t.is(stdout, 'y\n141 0\n');
  await eventually(() => !isRunning(Number(readFileSync(join(folder, 'pid'), 'utf8'))));
});

test.serial(
  'a command that ignores PIPE finds its output closed, and ends with its own status, its work done',
  async (t) => {
    const { script, folder } = await execPair(t);
    const { stdout } = await script(`
    $VPROXY exec sh -c 'trap "" PIPE; while echo x; do :; done 2>/dev/null; echo done > "$0/work"; exit 7' "$WORK" | head -1
    echo "\${PIPESTATUS[@]}"
    $VPROXY exec sh -c 'trap "" PIPE; while echo x >&2; do :; done; exit 7' 2> >(exec head -1 >&2); echo $?
    $VPROXY exec --json sh -c 'exit 7' | true; echo "\${PIPESTATUS[0]}"`);
    t.is(stdout, 'x\n7 0\n7\n7\n');
    t.is(readFileSync(join(folder, 'work'), 'utf8'), 'done\n');
  },
);

test.serial('a reader of a socket that goes once it has all changes nothing of the status', async (t) => {
  const { start } = await execPair(t);
  const { child, output, ended } = start('sh', '-c', 'echo ready; read line; exit 0');
  const cut = t.throwsAsync(output);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.stdout.destroy();
  child.stdin.end('go on\n');
  t.is((await ended).code, 0);
  await cut;
});

test.serial('a terminal whose reader has gone is hung up', async (t) => {
  const { script } = await execPair(t);
  const { stdout } = await script('$VPROXY exec -t sh -c "exec yes" | head -1 | tr -d "\\r"; echo "${PIPESTATUS[0]}"');
  t.is(stdout, 'y\n129\n');
});

test.serial('a full disk is a failure, and no output in part that looks whole', async (t) => {
  const { script } = await execPair(t);
  const { stdout, stderr } = await script('$VPROXY exec -n echo hello > /dev/full; echo $?');
  t.is(stdout, '125\n');
  t.regex(stderr, /^vproxy: error: standard output: no space left on device \(ENOSPC\)$/m);
});

test.serial('--json is one object, with bytes in base64 where they are no text', async (t) => {
  const { exec } = await execPair(t);
  const { code, stdout, stderr } = await exec(['--json', 'sh', '-c', 'cat; printf "\\377" >&2; exit 3'], 'schön');
  t.deepEqual({ code, stderr }, { code: 3, stderr: '' });
  const { startedAt, durationMs, pid, ...rest } = JSON.parse(stdout) as Record<string, unknown>;
  t.regex(String(startedAt), /^\d{4}-\d\d-\d\dT.*Z$/);
  t.true(Number(durationMs) > 0 && Number(pid) > 0);
  t.deepEqual(rest, {
    status: 3,
    signal: null,
    timedOut: false,
    stdout: 'schön',
    stderr: null,
    stderrBase64: '/w==',
    error: null,
  });
  const missing = await exec(['--json', 'nonexistent-command']);
  t.is(missing.code, 127);
  t.like(JSON.parse(missing.stdout), { status: null, pid: null, error: { code: 'command-not-found' } });
  const gone = await exec(['--json', '--socket', '/nonexistent', 'ls']);
  t.is(gone.code, 125);
  t.like(JSON.parse(gone.stdout), { status: null, stdout: null, error: { code: 'exec-unavailable' } });
});

test.serial('--json has what a terminal would obey as escapes, and is the same value', async (t) => {
  const { exec } = await execPair(t);
  const text = 'a\u009b31m\u202e\u2066\u061c\ufeff\u007f\u0085\u001b[2Jb';
  const { stdout } = await exec(['--json', 'sh', '-c', 'tee /dev/stderr'], text);
  t.regex(stdout, /^[\x20-\x7e]+\n$/);
  t.true(stdout.includes('a\\u009b31m\\u202e'));
  t.like(JSON.parse(stdout), { status: 0, stdout: text, stderr: text });
});

test.serial('--json keeps 64 MiB of an output, and reads the rest', async (t) => {
  const { script } = await execPair(t);
  const count = `process.stdin.on('data', (c) => chunks.push(c)).on('end', () => {
    const { status, stdout, stdoutTruncated } = JSON.parse(Buffer.concat(chunks));
    console.log(status, stdout.length, stdoutTruncated);
  }); const chunks = [];`;
  const { stdout } = await script(
    `$VPROXY exec -n --json sh -c 'yes | head -c 70000000; exit 5' | ${process.execPath} -e "${count}"`,
  );
  t.is(stdout, '5 67108864 true\n');
});

test.serial('output comes while the command runs, and 20 commands run at once', async (t) => {
  const { start } = await execPair(t);
  const { child, output, ended } = start('sh', '-c', 'echo first; read line; echo "$line"');
  const [first] = await new Promise<Buffer[]>((resolve) =>
    child.stdout.once('data', (chunk: Buffer) => resolve([chunk])),
  );
  t.is(first?.toString(), 'first\n');
  child.stdin.write('second\n');
  t.is((await output).toString(), 'first\nsecond\n');
  t.is((await ended).code, 0);
  const many = Array.from({ length: 20 }, (_, index) => start('-n', 'sh', '-c', `echo ${index}; exit ${index}`));
  t.deepEqual(
    await Promise.all(many.map(async (one) => [(await one.output).toString(), (await one.ended).code])),
    many.map((_, index) => [`${index}\n`, index]),
  );
});

test.serial('without a command it is the login shell', async (t) => {
  const { exec, script } = await execPair(t);
  t.deepEqual(await exec([], 'echo $((6 * 7)); exit 4\n'), { code: 4, stdout: '42\n', stderr: '' });
  const { stdout } = await script(
    'echo "echo \\$((6 * 7)); exit 5" | $VPROXY shell; echo $?; $VPROXY shell < /dev/null; echo $?',
  );
  t.is(stdout, '42\n5\n0\n');
});

test('the client for programs runs commands', async (t) => {
  const { env } = await execPair(t);
  const { collectOutput, connectControl } = await import('../../lib/index.js');
  const call = await connectControl(env.VPROXY_SOCKET ?? '').exec(['sh', '-c', 'echo $0; exit 2'], { hasInput: false });
  const { stdout, status, pid } = await collectOutput(call);
  t.deepEqual([stdout.toString(), status], ['sh\n', 2]);
  t.true((pid ?? 0) > 0);
});

test('a standard input that cannot be read is a failure', async (t) => {
  const { script } = await execPair(t);
  const { stdout, stderr } = await script('$VPROXY exec cat 0> "$WORK/file"; echo $?');
  t.is(stdout, '125\n');
  t.regex(stderr, /^vproxy: error: standard input: bad file descriptor \(EBADF\)$/m);
});

test('it loads little', (t) => {
  const path = (name: string) => join(PROJECT_ROOT, 'dist', name);
  t.deepEqual([...staticImports([path('cli/vproxy.js')])], [path('cli/vproxy.js'), path('cli/compiler-threads.js')]);
  const loaded = [...staticImports([path('cli/exec/run-exec.js')])].map((name) => name.replace(/.*\/dist\//, ''));
  const folders = new Set(loaded.map((name) => name.replace(/\/[^/]*$/, '')));
  t.deepEqual([...folders].filter((name) => !name.startsWith('node:')).sort(), [
    'cli/command',
    'cli/exec',
    'cli/ui',
    'lib',
    'lib/codec',
    'lib/control',
    'lib/control/client',
    'lib/exec',
    'lib/system/sockets',
    'lib/util',
    'lib/util/bytes',
  ]);
  t.deepEqual([...folders].filter((name) => name.startsWith('node:')).sort(), [
    'node:fs',
    'node:net',
    'node:os',
    'node:path',
    'node:stream',
    'node:tty',
    'node:util',
  ]);
  t.true(loaded.length < 40, String(loaded.length));
});
