/** `vproxy upgrade` under programs that have streams on the control socket: they notice nothing. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { WebSocket } from 'ws';
import type { ControlClient } from '../../lib/control/client/client.js';
import { connectService } from '../../lib/control/client/connect-service.js';
import { deferred } from '../../lib/util/concurrency.js';
import { ask } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { ONE_SESSION, processPair } from '../helpers/process-pair.js';
import { echo, localServer } from '../helpers/proxies.js';
import { eventually, untilStill } from '../helpers/time.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';
import { runPiped } from '../helpers/vproxy-process.js';

const SCREEN = { columns: 80, rows: 24, term: 'vt100' };

/** Echoes lines, and exits with a status of its own. */
const ECHO = ['sh', '-c', 'while read line; do echo "$line"; done; echo over >&2; exit 7'];

/** A host whose guest allows commands and copies. */
async function hostOf(t: ExecutionContext, host: readonly string[] = []) {
  const shared = temporaryFolder(t);
  const targets: string[] = [];
  const target = await localServer(t, (connected) => {
    connected.on('end', () => targets.push('end')).on('error', () => targets.push('reset'));
    echo(connected);
  });
  // A copy shall outlast upgrades.
  const config = join(temporaryFolder(t), 'guest.toml');
  writeFileSync(config, '[services.copy]\nbytes-per-second = 2500000\n');
  const guest = ['--config', config, '--allow-exec', `--allow-copy=${shared}`, '-i', `echo:${target.port}`];
  const pair = await processPair(t, { control: 'both', host, guest });
  const [client, socket] = [pair.clients[0], pair.sockets[0]];
  return { pair, shared, client, socket, targets };
}

/** Runs one command after the other until it is told to stop; resolves with their number. */
function keepCalling(t: ExecutionContext, client: ControlClient) {
  const over = new AbortController();
  const calling = (async () => {
    let count = 0;
    for (; !over.signal.aborted; count += 1) {
      const { stdin, stdout, result } = await client.exec(['cat']);
      stdin.end(`call ${count}`);
      t.is(await text(stdout), `call ${count}`);
      t.is((await result).status, 0);
    }
    return count;
  })();
  return () => {
    over.abort();
    return calling;
  };
}

test.serial('commands, streams and copies of programs continue in five successors, byte for byte', async (t) => {
  const { client, pair, shared, socket } = await hostOf(t);
  const bytes = randomBytes(10_000_000);
  writeFileSync(join(shared, 'bytes'), bytes);
  const lines = await client.exec(ECHO);
  const said = text(lines.stdout);
  const complaint = text(lines.stderr);
  const unread = await client.exec(['cat', join(shared, 'bytes')]);
  // Its window is full.
  await untilStill(async () => Math.max(...(await client.streams()).map(({ receivedBytes }) => receivedBytes)));
  const halfClosed = await client.connect('echo');
  halfClosed.end('what was written before');
  const local = temporaryFolder(t);
  const copy = runPiped(t, ['copy', `:${join(shared, 'bytes')}`, join(local, 'copied')], pair.env);
  const stop = [keepCalling(t, client), keepCalling(t, client)];
  let wanted = '';
  for (let round = 0; round < 5 || copy.child.exitCode === null; round += 1) {
    lines.stdin.write(`round ${round}\n`);
    wanted += `round ${round}\n`;
    await upgrade(t, socket);
    if (round === 0) t.is(copy.child.exitCode, null, 'the copy outlasts an upgrade');
  }
  for (const end of stop) t.true((await end()) > 0);
  lines.stdin.end();
  t.is(await said, wanted);
  t.is(await complaint, 'over\n');
  t.is((await lines.result).status, 7);
  t.is(await text(halfClosed), 'what was written before');
  const chunks: Buffer[] = [];
  for await (const chunk of unread.stdout) chunks.push(chunk as Buffer);
  t.true(bytes.equals(Buffer.concat(chunks)));
  t.is((await unread.result).status, 0);
  const { code, stderr } = await copy.ended;
  t.is(code, 0, stderr);
  t.true(bytes.equals(readFileSync(join(local, 'copied'))));
  t.deepEqual(pair.sessions(), ONE_SESSION);
});

test.serial(
  'in the successor, a program that leaves resets its stream, and learns why its stream was reset',
  async (t) => {
    const { client, pair, socket } = await hostOf(t);
    const caller = pair.start('--', 'sh', '-c', 'echo begun; exec sleep 300');
    const begun = deferred();
    caller.child.stdout.once('data', () => begun.resolve());
    const reset = await client.connect('echo');
    const failure = t.throwsAsync(text(reset));
    await begun.promise;
    await upgrade(t, socket);
    const streams = await client.streams();
    t.deepEqual(streams.map(({ service }) => service).sort(), ['echo', 'exec']);
    const { id } = streams.find(({ service }) => service === 'echo') ?? { id: 0 };
    await client.closeStream('default', id);
    t.regex((await failure).message, new RegExp(`stream ${id} to echo was reset: .*closed`));
    caller.child.kill('SIGKILL');
    await eventually(async () => (await pair.clients[1].streams()).length === 0, { what: 'the end of the command' });
    t.deepEqual(await client.streams(), []);
  },
);

test.serial('a stream that the peer has not accepted is waited for, but only briefly', async (t) => {
  const { client, pair, socket } = await hostOf(t);
  const open = () => connectService(socket, 'echo', undefined, { isReopened: true });
  pair.guest.kill('SIGSTOP');
  const refused = t.throwsAsync(open(), { message: /is being upgraded/ });
  await eventually(async () => (await client.streams()).length === 1, { what: 'the stream' });
  await upgrade(t, socket);
  await refused;
  pair.guest.kill('SIGCONT');

  // It is not refused for an upgrade that waits for something else, perhaps in vain.
  const lasting = ask({ socketPath: socket }, 'POST', '/v1/exec', { body: { argv: ['sleep', '300'] } });
  lasting.catch(() => undefined);
  await eventually(async () => (await client.streams()).length === 1);
  pair.guest.kill('SIGSTOP');
  const opened = open();
  await eventually(async () => (await client.streams()).length === 2);
  t.regex((await runUpgrade(socket, ['--wait', '3'])).stderr, /after 3 s: a control request in progress, and \d more/);
  pair.guest.kill('SIGCONT');
  (await opened).socket.destroy();
});

test.serial('an attached program that leaves after an upgrade resets its stream at the peer', async (t) => {
  const { client, socket, targets } = await hostOf(t);
  const { socket: left } = await connectService(socket, 'echo', undefined, { isAttached: true });
  left.resume().write('half of it');
  await once(left, 'data');
  await upgrade(t, socket);
  left.destroy();
  await eventually(async () => (await client.streams()).length === 0);
  t.deepEqual(targets, ['reset']);
});

test.serial(
  'a terminal that is recorded is waited for, and so is a program without a session, but only briefly',
  async (t) => {
    const folder = temporaryFolder(t);
    const config = join(temporaryFolder(t), 'host.toml');
    writeFileSync(config, `[services.exec]\nrecord = "${folder}"\n`);
    const { client, pair, socket } = await hostOf(t, ['--config', config]);
    const [plain, terminal] = [await client.exec(['cat']), await client.exec(['cat'], { terminal: SCREEN })];
    const { code, stderr } = await runUpgrade(socket, ['--wait', '0']);
    t.is(code, 1);
    t.regex(stderr, /default: stream \d+ to exec, which is recorded(?:, and 1 more)?\n$/);
    terminal.stdin.end('\x04');
    t.is((await terminal.result).status, 0);
    await upgrade(t, socket);
    plain.stdin.end();
    t.is((await plain.result).status, 0);
    pair.guest.kill('SIGKILL');
    await pair.host.waitForLine(/session .* ended|disconnected/);
    const waiting = t.throwsAsync(client.connect('echo'));
    t.regex((await runUpgrade(socket, ['--wait', '0'])).stderr, /default: a program that waits for a stream to echo/);
    await upgrade(t, socket);
    t.regex((await waiting).message, /control|closed|ended/);
  },
);

test.serial('a terminal of a job stays if the upgrade fails for another terminal, however young that is', async (t) => {
  const { client, socket } = await hostOf(t);
  const { id } = await client.startJob(['cat'], { terminal: SCREEN });
  const open = async (query: string) => {
    const terminal = new WebSocket(`ws+unix:${socket}:/v1/terminal${query}`);
    const closed = once(terminal, 'close') as Promise<[code: number]>;
    await once(terminal, 'open');
    return { terminal, closed };
  };
  const kept = await open(`?job=${id}`);
  const other = await open('');
  const { code, stderr } = await runUpgrade(socket, ['--wait', '0.5']);
  t.is(code, 1, stderr);
  t.regex(stderr, /default: stream \d+ to exec, which belongs to no forward/);
  const echoed = once(kept.terminal, 'message');
  kept.terminal.send(Buffer.from('still here'));
  t.regex(String((await echoed)[0]), /still/);
  other.terminal.terminate();
  await other.closed;
  await upgrade(t, socket);
  t.is((await kept.closed)[0], 1012);
});
