/**
 * A hostile name server as a program: it answers by UDP that its answer is too long, and then writes TCP messages of no bytes as
 * long as they are read. It prints its port on 127.0.0.1.
 */
import { once } from 'node:events';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { parseMessage } from '../../lib/system/dns/dns-message.js';
import { answerTo, bindBeside, bytesOf } from './dns.js';

const EMPTY_MESSAGES = Buffer.alloc(65_536);

/** Listens on a port that the system picks. */
async function listen(): Promise<net.AddressInfo> {
  const tcp = net.createServer((socket) => {
    const flood = (): void => {
      while (socket.write(EMPTY_MESSAGES));
    };
    socket.on('error', () => undefined).on('drain', flood);
    socket.once('data', flood);
  });
  tcp.listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  return tcp.address() as net.AddressInfo;
}

async function run(): Promise<void> {
  const { udp, port } = await bindBeside(listen);
  udp.on('message', (bytes, from) => {
    const asked = parseMessage(bytes);
    if (asked !== null) udp.send(bytesOf(answerTo(asked, [], { isTruncated: true })), from.port, from.address);
  });
  console.log(port);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await run();

export const FLOODING_NAME_SERVER = 'dist/spec/helpers/flooding-name-server.js';
