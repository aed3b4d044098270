/** What a program is told when its call to `exec` was not accepted, or was lost. */
import net from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import test from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
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
  await t.throwsAsync(startJob(failing(GONE), { argv: ['true'] }), {
    code: 'exec-unavailable',
    message: 'it is unknown whether the job was started: its process has exited',
  });
  await t.throwsAsync(stopJob(failing(GONE), '00000000'), {
    code: 'exec-unavailable',
    message: 'it is unknown whether the job has ended: its process has exited',
  });
});

test('a command for which there was no room may be tried again', async (t) => {
  await t.throwsAsync(runCommand(failing(FULL), { argv: ['true'] }).result, { code: 'too-many-streams' });

  const path = join(temporaryFolder(t), 'full.sock');
  const body = JSON.stringify({ error: { code: FULL.code, message: FULL.message } });
  const server = net.createServer((socket) =>
    socket.once('data', () => socket.end(`HTTP/1.1 503 Busy\r\n\r\n${body}`)),
  );
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const client = connectControl(path);
  for (const work of [client.exec(['true']), client.startJob(['true']), client.jobs({ channel: 'vm1' })])
    await t.throwsAsync(work, { code: 'too-many-streams' });
});
