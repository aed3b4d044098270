/**
 * A peer that poses as a storage emulator, against the broker of the real command line: the caller gets a code, and
 * nothing else reaches its terminal.
 */
import { join } from 'node:path';
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { callStorage } from '../../lib/storage/wrapper.js';
import { temporaryFolder } from '../helpers/files.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';
import { POISON } from './log-cases.js';
import { STORAGE_CASES } from './storage-cases.js';

const { ACCEPT, DATA, OPEN, REFUSE, SERVICES } = FRAME_TYPE;

test('whatever a peer answers to storage calls, each ends with its code, and the next one is served', async (t) => {
  const folder = temporaryFolder(t);
  const [path, socket] = [join(folder, 'channel.sock'), join(folder, 'storage.sock')];
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${path}`, '--storage-socket', socket]);
  await vproxy.waitForLine(/waiting for the peer/);
  const peer = await SocketPeer.established(path);
  t.teardown(() => peer.close());
  let answer: string | null | undefined;
  peer.onFrame = ({ type, streamId }) => {
    if (type === OPEN && answer === null) peer.send(REFUSE, streamId, { code: 'denied', message: POISON });
    else if (type === OPEN) peer.send(ACCEPT, streamId);
    else if (type === DATA && answer) {
      for (let at = 0; at < answer.length; at += 50_000) peer.sendData(streamId, answer.slice(at, at + 50_000));
    }
  };
  peer.send(SERVICES, 0, { services: ['storage'] });
  await peer.ping();
  const call = (timeoutMs: number) => callStorage({ argv: ['storcli64', '/c0'], socketPaths: [socket], timeoutMs });
  for (const [what, code, reply] of STORAGE_CASES) {
    answer = reply;
    // More than one stream's credit is never read: the link is lost before.
    const error = await t.throwsAsync(call(reply === undefined ? 300 : 10_000), { code }, what);
    t.notRegex(error.message, /[\u0000-\u001f\u007f-\u009f]/, what);
  }
  answer = '{"stdout":"well","stderr":"","status":0}\n';
  t.is((await call(10_000)).stdout.toString(), 'well');
  for (const line of vproxy.lines) t.notRegex(line, /[\u0000-\u001f\u007f-\u009f]/);
});
