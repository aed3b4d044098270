/** The calling side of exec, with a simulated runner. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { collectOutput, type ExecCall, runCommand } from '../../lib/services/exec/exec-call.js';
import { EXEC_KIND, type ExecRequest, encodeExit, STDIN_CREDIT_BYTES } from '../../lib/services/exec/exec-messages.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { duplexPair, resettingPair } from '../helpers/channel-pair.js';
import { ExecPeer, SUCCESS } from '../helpers/exec-peers.js';
import { eventually, within } from '../helpers/time.js';
import { bestTurnMs } from '../helpers/turn-time.js';

function call(request: Partial<ExecRequest> = {}): { readonly call: ExecCall; readonly peer: ExecPeer } {
  const [near, far] = resettingPair();
  const peer = new ExecPeer(far);
  return { call: runCommand(near, { argv: ['x'], ...request }), peer };
}

/** Resolves when what was sent has arrived. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

test('the request is sent first, and the result combines EXIT and STARTED', async (t) => {
  const { call: command, peer } = call({ argv: ['ls', '-l'], cwd: '/tmp', env: { A: '1' } });
  await eventually(() => peer.request !== null);
  t.deepEqual(peer.request, { argv: ['ls', '-l'], cwd: '/tmp', env: { A: '1' } });
  peer.say('STARTED', '{"pid": 42}');
  peer.exit({ status: 7, durationMs: 12.5 });
  t.deepEqual(await command.result, { ...SUCCESS, status: 7, durationMs: 12.5, pid: 42 });
  t.is(command.pid, 42);
});

test('R-EXEC-2: a caller that waits sends its input once the command has started', async (t) => {
  const { call: command, peer } = call({ wait: true });
  command.stdin.end('hello');
  await eventually(() => peer.request?.wait === true);
  await turn();
  t.is(peer.input.length, 0);
  peer.say('STARTED', '{"pid": 42}');
  await eventually(() => peer.said.length > 0);
  t.is(peer.input.toString(), 'hello');
});

test('a peer that runs too many commands is a rejection, after which another attempt may help', async (t) => {
  const { call: command, peer } = call();
  peer.exit({ status: null, error: { code: 'too-many-streams', message: 'too many\x1b commands' } });
  const error = await t.throwsAsync(command.result, { code: 'too-many-streams', message: 'too many\\x1b commands' });
  t.true(error instanceof VproxyError && error.row.retry);
});

test.serial('an output in one-byte records is complete if the stream closes after EXIT, in short turns', async (t) => {
  const count = 20_000;
  const pieces = Array.from({ length: count }, () => encodeRecord(EXEC_KIND.STDOUT, 'x'));
  const longestMs = await bestTurnMs(25, async () => {
    const [near, far] = duplexPair();
    far.on('error', () => undefined).resume();
    const command = runCommand(near, { argv: ['x'] });
    const output = text(command.stdout);
    near.emit('data', Buffer.concat([...pieces, encodeExit(SUCCESS)]));
    near.destroy(new VproxyError('peer-restarted', 'gone'));
    t.is((await command.result).status, 0);
    t.is((await output).length, count);
  });
  t.true(longestMs < 25, `${longestMs} ms`);
});

test('a slow reader gets all of an output before the result', async (t) => {
  const { call: command, peer } = call();
  const bytes = randomBytes(300_000);
  for (let at = 0; at < bytes.length; at += 10_000) peer.say('STDOUT', bytes.subarray(at, at + 10_000));
  peer.exit();
  const chunks: Buffer[] = [];
  let isResolved = false;
  void command.result.then(() => {
    isResolved = true;
  });
  let gotBytes = 0;
  for await (const chunk of command.stdout as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    gotBytes += chunk.length;
    await turn();
    if (gotBytes < bytes.length) t.false(isResolved);
  }
  t.true(Buffer.concat(chunks).equals(bytes));
  await command.result;
});

test('streamEnd waits for the peer, even if an output is full and unread', async (t) => {
  const { call: command, peer } = call();
  const told: string[] = [];
  void command.streamEnd.then(() => told.push('stream'));
  const full = encodeRecord(EXEC_KIND.STDOUT, Buffer.alloc(100_000));
  peer.stream.write(Buffer.concat([full, encodeExit(SUCCESS)]));
  await command.result;
  await turn();
  t.deepEqual(told, []);
  t.false(peer.stream.readableEnded);
  peer.stream.end();
  await command.streamEnd;
  await eventually(() => peer.stream.readableEnded, { what: 'the end of the caller’s direction' });
  t.is((await buffer(command.stdout)).length, 100_000);
});

test('an unread output blocks the command; an output can still be read after the result', async (t) => {
  const { call: held, peer } = call();
  let saidBytes = 0;
  for (; saidBytes < 10_000_000 && !peer.stream.writableNeedDrain; saidBytes += 20_000) {
    peer.say('STDERR', Buffer.alloc(20_000));
    await turn();
  }
  t.true(saidBytes < 1_000_000);
  t.true(held.stderr.readableLength < 300_000);
  const { call: short, peer: other } = call();
  other.say('STDOUT', 'hello');
  other.exit();
  await short.result;
  t.is(await text(short.stdout), 'hello');
});

test('a destroyed output blocks nothing', async (t) => {
  const { call: command, peer } = call();
  command.stderr.destroy();
  await turn();
  for (let index = 0; index < 100; index++) peer.say('STDERR', Buffer.alloc(20_000));
  peer.say('STDOUT', 'out');
  peer.exit();
  t.is(await text(command.stdout), 'out');
  t.is((await command.result).status, 0);
  t.deepEqual(peer.said, ['EOF 02'], 'and is closed there; one that has ended is not');
});

test('standard input stays within the credit, and EOF follows its last byte', async (t) => {
  const { call: command, peer } = call();
  const bytes = randomBytes(STDIN_CREDIT_BYTES + 100_000);
  command.stdin.end(bytes);
  await eventually(() => peer.input.length === STDIN_CREDIT_BYTES);
  command.signal('SIGINT');
  await eventually(() => peer.said.length === 1);
  t.deepEqual(peer.said, ['SIGNAL SIGINT']);
  t.is(peer.input.length, STDIN_CREDIT_BYTES);
  peer.grant(99_999);
  await eventually(() => peer.input.length === STDIN_CREDIT_BYTES + 99_999);
  t.is(peer.said.length, 1);
  peer.grant(1);
  await eventually(() => peer.said.length === 2);
  t.is(peer.said[1], 'EOF 00');
  t.true(peer.input.equals(bytes));
});

test('unwanted input is dropped, and so is everything after EOF', async (t) => {
  for (const close of [(peer: ExecPeer) => peer.say('EOF', Buffer.from([0])), (peer: ExecPeer) => peer.exit()]) {
    const { call: command, peer } = call();
    const written = new Promise((resolve) => command.stdin.write(Buffer.alloc(1_000_000), resolve));
    await eventually(() => peer.input.length === STDIN_CREDIT_BYTES);
    close(peer);
    await within(30_000, 'the write', written);
    await new Promise<void>((resolve) => command.stdin.end(Buffer.alloc(1_000_000), resolve));
    t.is(peer.input.length, STDIN_CREDIT_BYTES);
    t.deepEqual(peer.said, []);
  }
});

test('a command without input gets neither data nor EOF', async (t) => {
  const { call: command, peer } = call({ hasInput: false });
  t.true(command.stdin.writableEnded);
  // No terminal has the first two sizes.
  for (const [columns, rows] of [
    [0, 50],
    [100, 0],
    [100, 50],
  ] as const)
    command.resize({ columns, rows });
  await eventually(() => peer.said.length === 1);
  t.deepEqual(peer.said, ['RESIZE 00640032']);
});

test('sizes that come faster than the peer takes them need no memory; the last one is sent', async (t) => {
  const [near, far] = duplexPair();
  const command = runCommand(near, { argv: ['x'] });
  for (let columns = 1; columns < 50_000; columns += 1) command.resize({ columns, rows: 50 });
  t.true(near.writableLength < 100_000, `${near.writableLength}`);
  const peer = new ExecPeer(far);
  await eventually(() => peer.said.at(-1) === 'RESIZE c34f0032', { what: `the last size` });
  command.cancel();
});

test('a command that could not be run is a result', async (t) => {
  const { call: command, peer } = call();
  const error = { code: 'command-not-found', message: 'x: there is no such command' };
  peer.exit({ status: null, error });
  t.deepEqual(await command.result, { ...SUCCESS, status: null, error, pid: null });
});

test('a call that is cancelled after EXIT has its result, although its outputs are not read', async (t) => {
  const { call: command, peer } = call();
  command.stdout.once('data', () => command.stdout.pause());
  peer.say('STDOUT', 'x');
  await eventually(() => command.stdout.readableFlowing === false);
  peer.say('STDOUT', 'y');
  // Its end is that of EXIT, which may come in another piece than the output.
  const isOver = once(command.stderr.resume(), 'end');
  peer.exit({ status: 3 });
  await isOver;
  t.is(command.stdout.readableLength, 1);
  const piped = pipeline(command.stdout, new Writable({ write: () => undefined }));
  command.cancel();
  t.like(await within(10_000, 'its result', command.result), { status: 3 });
  await t.throwsAsync(within(10_000, 'the end of the pipe', piped), { code: 'cancelled' });
});

test('outputs are collected although the command has ended long before', async (t) => {
  const { call: command, peer } = call();
  peer.say('STDOUT', 'out');
  peer.exit({ status: 3 });
  await command.result;
  t.like(await collectOutput(command), { status: 3, stdout: Buffer.from('out') });
});

test('output that a cancelled call had not read counts as cut, although the command has ended', async (t) => {
  const { call: command, peer } = call();
  peer.say('STDOUT', 'out');
  peer.exit({ status: 3 });
  await command.result;
  command.cancel();
  t.like(await collectOutput(command), { status: 3, stdout: Buffer.alloc(0), stdoutTruncated: true });
});

test('outputs of single bytes are kept whole', async (t) => {
  const { call: command, peer } = call();
  const output = collectOutput(command, { maxBytes: 700 });
  const sent = randomBytes(1000);
  for (const [at] of sent.entries()) peer.say('STDOUT', sent.subarray(at, at + 1));
  peer.exit();
  t.like(await output, { stdout: sent.subarray(0, 700), stdoutTruncated: true });
});

test('a stream that ends without EXIT fails the result and the outputs', async (t) => {
  const { call: command, peer } = call();
  const output = buffer(command.stdout);
  peer.say('STARTED', '{"pid": 1}');
  peer.stream.end();
  const expected = { code: 'exec-unavailable', message: /^the result of the command is unknown: closed by the peer$/ };
  await t.throwsAsync(command.result, expected);
  await t.throwsAsync(output, expected);
});

test('a failed stream reports its reason', async (t) => {
  const { call: command, peer } = call();
  peer.say('STDOUT', 'x');
  await turn();
  peer.stream.destroy(new VproxyError('peer-restarted', 'the peer\x1b started anew'));
  await command.streamEnd;
  const error = await t.throwsAsync<VproxyError>(command.result, { code: 'exec-unavailable' });
  t.is(error.message, 'the result of the command is unknown: the peer\\x1b started anew');
});

for (const code of ['unknown-service', 'denied']) {
  test(`a peer that answers ${code} does not allow commands`, async (t) => {
    const { call: command, peer } = call();
    peer.stream.destroy(new VproxyError(code, 'service exec is not offered'));
    await t.throwsAsync(command.result, {
      code: 'command-denied',
      message: 'the peer does not allow commands; start vproxy there with --allow-exec',
    });
  });
}

test('a peer that violates the protocol has its stream reset', async (t) => {
  for (const say of [
    (peer: ExecPeer) => peer.say('EXIT', '{}'),
    (peer: ExecPeer) => peer.say('EOF', 'long'),
    (peer: ExecPeer) => peer.say('EOF', Buffer.from([1])) && peer.say('STDOUT', 'x'),
    (peer: ExecPeer) => peer.stream.write(Buffer.from('11ffffffff', 'hex')),
  ]) {
    const { call: command, peer } = call();
    say(peer);
    await t.throwsAsync(command.result, { code: 'exec-unavailable' });
    await eventually(() => peer.stream.destroyed);
  }
});

test('records of unknown kinds are ignored', async (t) => {
  const { call: command, peer } = call();
  peer.stream.write(Buffer.from('7f00000001ff', 'hex'));
  peer.exit();
  t.is((await command.result).status, 0);
});

test('a cancelled call destroys its stream', async (t) => {
  const { call: command, peer } = call();
  command.cancel();
  await t.throwsAsync(command.result, { code: 'exec-unavailable', message: /the call was cancelled$/ });
  await eventually(() => peer.stream.destroyed);
});

test('collected output is bounded, and the rest does not block the command', async (t) => {
  const { call: command, peer } = call();
  for (let index = 0; index < 50; index++) peer.say('STDOUT', Buffer.alloc(30_000, 'a'));
  peer.say('STDERR', 'few');
  peer.exit({ status: 3 });
  const { stdout, stderr, status, ...rest } = await collectOutput(command, { maxBytes: 100_000 });
  t.is(stdout.length, 100_000);
  t.is(stderr.toString(), 'few');
  t.is(status, 3);
  t.like(rest, { stdoutTruncated: true, stderrTruncated: false });
});
