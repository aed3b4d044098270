/** Two storage emulators of the host, one that listens and one that dials; their answers tell which one gave them. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

/** The exit status in every reply. */
export const EMULATOR_STATUS = 3;

/** The answer of an emulator of this `kind` to a command line: its stdout. */
export function emulatedOutput(kind: 'listening' | 'dialling', argv: readonly string[]): string {
  return `${kind}: ${argv.join(' ')}\nCLI Version = 007\n`;
}

/** Listens on a port that the system picks; answers a request on each connection and closes it. */
export async function listenAsEmulator(): Promise<{ port: number; close: () => void }> {
  const server: Server = createServer((socket) => answer(socket, 'listening', () => socket.end()));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP listener without a port');
  return { port: address.port, close: () => server.close() };
}

/** Connects to `port` and answers one request after the other, until it is closed. */
export async function dialAsEmulator(port: number): Promise<{ close: () => void }> {
  const socket = connect(port, '127.0.0.1');
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  answer(socket, 'dialling', () => undefined);
  return { close: () => socket.end() };
}

function answer(socket: Socket, kind: 'listening' | 'dialling', whenAnswered: () => void): void {
  socket.on('error', () => undefined);
  createInterface({ input: socket })
    .on('error', () => undefined)
    .on('line', (line) => {
      const { argv } = JSON.parse(line) as { argv: string[] };
      const reply = { stdout: emulatedOutput(kind, argv), stderr: 'careful\n', status: EMULATOR_STATUS };
      socket.write(`${JSON.stringify(reply)}\n`);
      whenAnswered();
    });
}
