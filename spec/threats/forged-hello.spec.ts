/**
 * T17: a flush, a magic and a HELLO end a session only where a frame should begin, and only on the peer's own channel.
 */
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { helloOf } from './hello-editor.js';

const FIELDS = {
  ...{ version: { min: 1, max: 1 }, nonce: '7'.repeat(32), ack: null, instance: '8'.repeat(32), integrity: 'full' },
  limits: { frame: 131_072, streamCredit: 65_536, inFlight: 1_048_576, streams: 1024, opens: 256 },
};

test('T17: the opening of a session is carried as any bytes on a stream, at every place in its frames', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const server = await localServer(t, echo);
  const { a, b } = await connectedProxies(t, path, { outgoing: ['echo:0'] }, { incoming: [`echo:${server.port}`] });
  const opening = Buffer.concat([Buffer.alloc(131_088), helloOf(FIELDS)]);
  for (let shift = 0; shift < 20; shift += 1) {
    const bytes = Buffer.concat([Buffer.alloc(shift * 7, 'x'), opening, helloOf(FIELDS), opening]);
    const socket = localSocket(t, { host: '127.0.0.1', port: a.port('echo') });
    const answer = readToEnd(socket);
    socket.end(bytes);
    t.true((await answer).equals(bytes), `shifted by ${shift * 7}`);
  }
  for (const { events } of [a, b]) t.false(events.some(({ event }) => event === 'session-ended'));
});
