/** `vproxy exec` through two real processes: what a shell and its user see of a command on the peer. */
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { encodeExit } from '../../lib/services/exec/exec-messages.js';
import { SUCCESS } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { execPair } from '../helpers/process-pair.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { isRunning, type PipedCommand, runPiped, spawnControlled } from '../helpers/vproxy-process.js';

const TERMINAL_NEEDED = 'vproxy: error: -t: the input is not a terminal; use -tt to run the command in one anyway\n';

/** The first bytes that a command writes. */
const firstOf = async ({ child }: PipedCommand): Promise<string> => String((await once(child.stdout, 'data'))[0]);

test.serial('a command has its own input, output, error and status, and options end where it begins', async (t) => {
  const { exec } = await execPair(t);
  for (const [words, code, stdout, stderr = ''] of [
    [['--', 'sh', '-c', 'echo out; echo err >&2; exit 7'], 7, 'out\n', 'err\n'],
    [['default:', '-n', 'echo', '-n', '--', '-t'], 0, '-- -t'],
    [['--', 'default:'], 127, '', 'vproxy: error: default:: command not found\n'],
    [['cat'], 0, 'hello'],
    [['-n', 'cat'], 0, ''],
    [['head', '-c', '4'], 0, 'hell'],
    [['sh', '-c', 'kill -KILL $$'], 128 + 9, ''],
    [['sh', '-c', 'kill -USR1 $$'], 128 + 10, ''],
    [['sh', '-c', 'kill -35 $$'], 128 + 35, ''],
    [['-t', 'true'], 125, '', TERMINAL_NEEDED],
    [['default:', '-it', '--', 'true'], 125, '', TERMINAL_NEEDED],
  ] as const) {
    t.deepEqual(await exec(words, 'hello'), { code, stdout, stderr }, words.join(' '));
  }
  t.deepEqual(await exec([], 'echo $((6 * 7)); exit 4\n'), { code: 4, stdout: '42\n', stderr: '' }, 'the login shell');
});

test.serial('descriptors that the starter of vproxy left open do not reach a command', async (t) => {
  const launcher = ['bash', '-c', 'exec "$@" 9< /dev/null 20< /dev/null 150< /dev/null', 'bash'];
  const { exec } = await execPair(t, ['--allow-exec'], { guestOptions: { launcher } });
  const { stdout } = await exec(['sh', '-c', 'echo /proc/self/fd/*']);
  t.deepEqual(
    stdout
      .trim()
      .split(' ')
      .map((path) => Number(path.slice(14)))
      .filter((fd) => fd > 3),
    [],
  );
});

test.serial('in a shell: in a condition, after a pipe, with files', async (t) => {
  const { script, folder } = await execPair(t);
  mkdirSync(join(folder, 'from/deep'), { recursive: true });
  mkdirSync(join(folder, 'to'));
  writeFileSync(join(folder, 'from/deep/file'), 'content');
  const { stdout } = await script(`
    if ! $VPROXY exec uname | grep -q Linux; then echo no; fi
    if $VPROXY exec test -e /nonexistent; then echo there; else echo "not there: $?"; fi
    $VPROXY exec sh -c 'echo both; echo both >&2' > "$WORK/one" 2>&1; sort "$WORK/one" | uniq -c | tr -s ' '
    tar c -C "$WORK/from" . | $VPROXY exec tar x -C "$WORK/to"; cat "$WORK/to/deep/file"
    $VPROXY exec cat < "$WORK/from/deep/file"; $VPROXY exec wc -c < /dev/null
    echo "echo \\$((6 * 7)); exit 5" | $VPROXY shell; echo $?; $VPROXY shell < /dev/null; echo $?`);
  t.is(stdout, 'not there: 1\n 2 both\ncontentcontent0\n42\n5\n0\n');
});

test.serial('50 MB of output arrive unchanged, through a pipe and in a file', async (t) => {
  const { script } = await execPair(t);
  const { stdout } = await script(`
    seq -w 1 99999999 | head -c 50000000 > "$WORK/source"
    sha256sum < "$WORK/source"
    $VPROXY exec -n cat "$WORK/source" | sha256sum
    $VPROXY exec -n cat "$WORK/source" > "$WORK/copy"; sha256sum < "$WORK/copy"`);
  const [digest, ...others] = stdout.trim().split('\n');
  t.regex(digest ?? '', /^[0-9a-f]{64} /);
  t.deepEqual(others, [digest, digest]);
});

test.serial('a command that cannot be run has an error line and a status', async (t) => {
  const { exec } = await execPair(t, ['--allow-exec=/usr/bin/env,/usr/bin/missing']);
  const denied = await exec(['ls']);
  t.is(denied.code, 126);
  t.regex(denied.stderr, /^vproxy: error: .*ls.*\n$/);
  t.is((await exec(['/usr/bin/missing'])).code, 127);
  t.is((await exec(['env', '--chdir', '/', 'pwd'])).stdout, '/\n');
});

test.serial('a peer that allows no commands or is down, and an invalid word', async (t) => {
  const { exec, host } = await execPair(t, []);
  const line = 'vproxy: error: the peer does not allow commands; start vproxy there with --allow-exec\n';
  t.deepEqual(await exec(['true']), { code: 126, stdout: '', stderr: line });
  t.is((await exec(['--channel', 'vm7', 'true'])).code, 125);
  const wrong = { code: 125, stdout: '', stderr: 'vproxy: error: -x: unknown option; see --help\n' };
  t.deepEqual(await exec(['-x', 'ls']), wrong);
  await host.stop();
  const gone = await exec(['true']);
  t.is(gone.code, 125);
  t.regex(gone.stderr, /^vproxy: error: no process answers on .*\n$/);
});

for (const [what, ends] of [
  ['leaves in order: its stream has ended before it goes', true],
  ['does not wait for ever for a peer that never ends its stream', false],
] as const) {
  test.serial(`a caller ${what}`, async (t) => {
    const channel = join(temporaryFolder(t), 'c');
    const { socket } = await spawnControlled(t, ['-c', `unix-listen:${channel}`]);
    const peer = await SocketPeer.established(channel);
    t.teardown(() => peer.close());
    const { child, ended } = runPiped(t, ['exec', '-n', 'false'], { VPROXY_SOCKET: socket });
    child.stdout.resume();
    const { streamId } = await peer.seen(/^OPEN .* exec$/);
    peer.send(FRAME_TYPE.ACCEPT, streamId);
    peer.sendCredit(streamId, 65_536);
    await peer.seen(/^DATA /);
    peer.sendData(streamId, encodeExit({ ...SUCCESS, status: 1 }));
    if (ends) peer.send(FRAME_TYPE.FIN, streamId);
    t.deepEqual(await ended, { code: 1, stderr: '' });
    t.is((await peer.seen(/^(FIN|RESET) /)).name, ends ? 'FIN' : 'RESET');
  });
}

test.serial('environment, folder and timeout', async (t) => {
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

test.serial('signals are passed to the command, which may handle them', async (t) => {
  const { start } = await execPair(t);
  for (const name of ['INT', 'TERM', 'HUP', 'QUIT', 'USR1', 'USR2'] as const) {
    const text = `trap 'echo got ${name}; exit 9' ${name}; echo ready; while :; do sleep 0.05; done`;
    const command = start('sh', '-c', text);
    await firstOf(command);
    command.child.kill(`SIG${name}`);
    t.is((await command.ended).code, 9, name);
    t.is((await command.output).toString(), `ready\ngot ${name}\n`);
  }
});

test.serial('a third interrupt within a second abandons a command that does not respond', async (t) => {
  const { start } = await execPair(t);
  const command = start('sh', '-c', 'trap "" INT; echo $$; while :; do sleep 0.05; done');
  const pid = Number(await firstOf(command));
  const interrupt = () => command.child.kill('SIGINT');
  interrupt();
  // Signals that arrive at the same time count as one.
  const again = setInterval(interrupt, 100);
  t.teardown(() => clearInterval(again));
  t.is((await command.ended).code, 130);
  await eventually(() => !isRunning(pid));
});

for (const [who, side] of [
  ['a peer', 'guest'],
  ['a proxy of this side', 'host'],
] as const) {
  test.serial(`${who} that disappears is a failure with its reason`, async (t) => {
    const pair = await execPair(t);
    const command = pair.start('sh', '-c', 'echo ready; sleep 1000');
    await firstOf(command);
    pair[side].kill('SIGKILL');
    const { code, stderr } = await command.ended;
    t.is(code, 125);
    t.regex(stderr, /^vproxy: error: the result of the command is unknown: .*\n$/);
  });
}

for (const [what, script, code] of [
  ['that ignores TERM is hung up', 'trap "" TERM; echo ready; while :; do sleep 0.05; done', 128 + 1],
  ['that ignores TERM and HUP is killed', 'trap "" TERM HUP; echo ready; while :; do sleep 0.05; done', 128 + 9],
] as const) {
  test.serial(`a command ${what} at the second TERM`, async (t) => {
    const { start } = await execPair(t);
    const command = start('--kill-after', '0.5', '--', 'sh', '-c', script);
    await firstOf(command);
    const { child, ended } = command;
    const isOver = (): boolean => child.exitCode !== null;
    await eventually(() => isOver() || (child.kill('SIGTERM'), isOver()), { intervalMs: 300 });
    t.is((await ended).code, code);
  });
}

test.serial('a reader that has closed ends the command as a pipe would, and hangs up a terminal', async (t) => {
  const { script, folder } = await execPair(t);
  const { stdout } = await script(`
    $VPROXY exec sh -c 'echo $$ > "$0/pid"; exec yes' "$WORK" | head -1; echo "\${PIPESTATUS[@]}"
    $VPROXY exec -tt sh -c "exec yes" | head -1 | tr -d "\\r"; echo "\${PIPESTATUS[0]}"`);
  t.is(stdout, 'y\n141 0\ny\n129\n');
  await eventually(() => !isRunning(Number(readFileSync(join(folder, 'pid'), 'utf8'))));
});

test.serial('a command that ignores SIGPIPE finds its output closed, and exits with its own status', async (t) => {
  const { script, folder, start } = await execPair(t);
  const { stdout } = await script(`
    $VPROXY exec sh -c 'trap "" PIPE; while echo x; do :; done 2>/dev/null; echo done > "$0/work"; exit 7' "$WORK" | head -1
    echo "\${PIPESTATUS[@]}"
    $VPROXY exec sh -c 'trap "" PIPE; while echo x >&2; do :; done; exit 7' 2> >(exec head -1 >&2); echo $?
    $VPROXY exec --json sh -c 'exit 7' | true; echo "\${PIPESTATUS[0]}"`);
  t.is(stdout, 'x\n7 0\n7\n7\n');
  t.is(readFileSync(join(folder, 'work'), 'utf8'), 'done\n');
  // A reader of a socket that closes once it has everything does not change the status.
  const command = start('sh', '-c', 'echo ready; read line; exit 0');
  const cut = t.throwsAsync(command.output);
  await firstOf(command);
  command.child.stdout.destroy();
  command.child.stdin.end('go on\n');
  t.is((await command.ended).code, 0);
  await cut;
});

test.serial('an output that cannot be written, or an input that cannot be read, is a failure', async (t) => {
  const { script } = await execPair(t);
  const full = await script('$VPROXY exec -n echo hello > /dev/full; echo $?');
  t.is(full.stdout, '125\n');
  t.regex(full.stderr, /^vproxy: error: standard output: no space left on device \(ENOSPC\)$/m);
  const unreadable = await script('$VPROXY exec cat 0> "$WORK/file"; echo $?');
  t.is(unreadable.stdout, '125\n');
  t.regex(unreadable.stderr, /^vproxy: error: standard input: bad file descriptor \(EBADF\)$/m);
});

test.serial('--json is one object, with bytes that are not text in base64', async (t) => {
  const { exec } = await execPair(t);
  const { code, stdout, stderr } = await exec(['--json', 'sh', '-c', 'cat; printf "\\377" >&2; exit 3'], 'schön');
  t.deepEqual({ code, stderr }, { code: 3, stderr: '' });
  const { startedAt, durationMs, pid, usage, ...rest } = JSON.parse(stdout) as Record<string, unknown>;
  t.regex(String(startedAt), /^\d{4}-\d\d-\d\dT.*Z$/);
  t.true(Number(durationMs) > 0 && Number(pid) > 0);
  t.regex(JSON.stringify(usage), /^\{"cpuMs":[\d.]+,"peakBytes":(null|\d+)\}$/);
  const ended = { status: 3, signal: null, timedOut: false, error: null };
  t.deepEqual(rest, { ...ended, stdout: 'schön', stderr: null, stderrBase64: '/w==' });
  for (const [words, status, error] of [
    [['nonexistent-command'], 127, 'command-not-found'],
    [['--socket', '/nonexistent', 'ls'], 125, 'exec-unavailable'],
  ] as const) {
    const failed = await exec(['--json', ...words]);
    t.is(failed.code, status);
    t.like(JSON.parse(failed.stdout), { status: null, error: { code: error } });
  }
});

test.serial('--json escapes control characters, and keeps 64 MiB of an output', async (t) => {
  const { exec, script } = await execPair(t);
  const text = 'a\u009b31m\u202e\u2066\u061c\ufeff\u007f\u0085\u001b[2Jb';
  const { stdout } = await exec(['--json', 'sh', '-c', 'tee /dev/stderr'], text);
  t.regex(stdout, /^[\x20-\x7e]+\n$/);
  t.true(stdout.includes('a\\u009b31m\\u202e'));
  t.like(JSON.parse(stdout), { status: 0, stdout: text, stderr: text });
  const count = `process.stdin.on('data', (c) => chunks.push(c)).on('end', () => {
    const { status, stdout, stdoutTruncated } = JSON.parse(Buffer.concat(chunks));
    console.log(status, stdout.length, stdoutTruncated);
  }); const chunks = [];`;
  const much = "$VPROXY exec -n --json sh -c 'yes | head -c 70000000; exit 5'";
  t.is((await script(`${much} | ${process.execPath} -e "${count}"`)).stdout, '5 67108864 true\n');
});
