/** What a program is told when its call to `exec` was not accepted, or was lost. */
import net from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { type ControlClient, connectControl } from '../../lib/control/client/client.js';
import { VproxyError } from '../../lib/errors.js';
import { runCommand } from '../../lib/services/exec/exec-call.js';
import { startJob, stopJob } from '../../lib/services/exec/jobs/job-calls.js';
import { temporaryFolder } from '../helpers/files.js';

/** A stream that fails once something has been written to it. */
const failing = (error: VproxyError) =>
  new Duplex({
    read: () => undefined,
    write(_chunk, _encoding, callback) {
      callback();
      this.destroy(error);
    },
  });

const GONE = new VproxyError('control-unavailable', 'its process has exited');
const FULL = new VproxyError('too-many-streams', 'no room');

test('a lost stream of a job leaves open whether the job runs', async (t) => {
  await t.throwsAsync(
    startJob(() => failing(GONE), { argv: ['true'] }),
    {
      code: 'exec-unavailable',
      message: 'it is unknown whether the job was started: its process has exited',
    },
  );
  await t.throwsAsync(
    stopJob(() => failing(GONE), '00000000'),
    {
      code: 'exec-unavailable',
      message: 'it is unknown whether the job has ended: its process has exited',
    },
  );
});

/** A client of a process that answers each request with an error. */
async function refusedClient(t: ExecutionContext, status: number, error: VproxyError): Promise<ControlClient> {
  const path = join(temporaryFolder(t), 'control.sock');
  const body = JSON.stringify({ error: { code: error.code, message: error.message } });
  const server = net.createServer((socket) =>
    socket.once('data', () => socket.end(`HTTP/1.1 ${status} No\r\n\r\n${body}`)),
  );
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return connectControl(path);
}

test('a command for which there was no room may be tried again', async (t) => {
  await t.throwsAsync(runCommand(failing(FULL), { argv: ['true'] }).result, { code: 'too-many-streams' });
  const client = await refusedClient(t, 503, FULL);
  for (const work of [client.exec(['true']), client.startJob(['true']), client.jobs({ channel: 'vm1' })])
    await t.throwsAsync(work, { code: 'too-many-streams' });
});

test('a command for a channel that does not exist is not worth another attempt', async (t) => {
  const client = await refusedClient(t, 404, new VproxyError('not-found', 'no channel "vm2"'));
  const channel = 'vm2';
  for (const work of [
    client.exec(['true'], { channel }),
    client.startJob(['true'], { channel }),
    client.jobs({ channel }),
    client.stopJob('00000000', { channel }),
    client.attachJob('00000000', { channel }).next(),
  ])
    await t.throwsAsync(work, { code: 'not-found', message: 'no channel "vm2"' });
});

test('an invalid request is refused before anything is sent', async (t) => {
  const client = connectControl('/nonexistent');
  const env = new Map([['NAME', 'value']]) as unknown as Record<string, string>;
  const from = Number.NaN;
  for (const [work, message] of [
    [client.exec(['env'], { env }), 'env: not an object'],
    [client.startJob(['env'], { env }), 'env: not an object'],
    [client.exec('true' as unknown as string[]), 'argv: not a list'],
    [client.startJob([]), 'argv: empty; a job without a terminal needs a command'],
    [client.stopJob('1', { killAfterMs: Number.NaN }), 'killAfterMs: not a number from 0 to 2147483647'],
    [client.attachJob('1', { from }).next(), 'from: not a whole number from 0 to 9007199254740991'],
    [client.attachJob('1', { from: 1, tail: 1 }).next(), 'tail: not allowed with from'],
  ] as const)
    await t.throwsAsync(work, { code: 'bad-argument', message });
});
