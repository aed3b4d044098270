/**
 * DNS-sized datagrams, as a separate process: `questions.js TARGET PORT COUNT PER_SECOND` answers those on port TARGET of 127.0.0.1
 * and sends COUNT questions to PORT, some each millisecond. Prints the numbers of questions received and answers returned as JSON.
 */
import dgram from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

const QUESTION_BYTES = 60;
const ANSWER_BYTES = 120;
const LOOPBACK = '127.0.0.1';

/** Datagrams in flight have arrived by then. */
const LAST_MS = 500;

const [target = 0, port = 0, count = 0, perSecond = 1] = process.argv.slice(2).map(Number);

const open = async (at: number): Promise<dgram.Socket> => {
  const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 2 ** 20 });
  socket.bind(at, LOOPBACK);
  await once(socket, 'listening');
  return socket;
};

const [server, client] = await Promise.all([open(target), open(0)]);
const came = { questions: 0, answers: 0 };
const answer = Buffer.alloc(ANSWER_BYTES);
server.on('message', (_, source) => {
  came.questions += 1;
  server.send(answer, source.port, source.address);
});
client.on('message', () => {
  came.answers += 1;
});

const question = Buffer.alloc(QUESTION_BYTES);
const startedAt = performance.now();
for (let sent = 0; sent < count; ) {
  const due = Math.min(count, Math.ceil(((performance.now() - startedAt) * perSecond) / 1000));
  for (; sent < due; sent += 1) client.send(question, port, LOOPBACK);
  await delay(1);
}
await delay(LAST_MS);
server.close();
client.close();
process.stdout.write(JSON.stringify(came));
