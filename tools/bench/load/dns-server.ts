/** `dns-server.js PORT`, as a separate process: answers each question on that UDP port of 127.0.0.1 with itself, marked as an answer. */
import dgram from 'node:dgram';

/** QR, in the third byte of the header. */
const IS_ANSWER = 0x80;

const server = dgram.createSocket({ type: 'udp4', recvBufferSize: 2 ** 20 });
server.on('message', (message, { port, address }) => {
  message[2] = (message[2] ?? 0) | IS_ANSWER;
  server.send(message, port, address);
});
server.bind(Number(process.argv[2]), '127.0.0.1');
