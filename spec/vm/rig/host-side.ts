/** The host's side of a channel: its vproxy, and the targets of the guest's forwards. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { VproxyProcess } from '../../helpers/vproxy-process.js';
import { GUEST_SERVICES, type GuestService } from './guest-ports.js';

/** Two storage emulators, one that listens and one that dials; their answers identify them. */
type EmulatorKind = 'listening' | 'dialling';

/** The answer of an emulator to a command line. */
export const emulatedReply = (kind: EmulatorKind, argv: readonly string[]) => ({
  stdout: `${kind}: ${argv.join(' ')}\nCLI Version = 007\n`,
  stderr: 'careful\n',
  status: 3,
});

function answer(socket: Socket, kind: EmulatorKind): void {
  socket.on('error', () => undefined);
  createInterface({ input: socket })
    .on('error', () => undefined)
    .on('line', (line) => {
      const { argv } = JSON.parse(line) as { argv: string[] };
      socket.write(`${JSON.stringify(emulatedReply(kind, argv))}\n`);
      if (kind === 'listening') socket.end();
    });
}

/** Connects to `port` and answers one request after the other, until it is closed. */
export async function dialAsEmulator(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  answer(socket, 'dialling');
  return socket;
}

async function listen(handle: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, handle).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

/** Holds the vproxy of the host, an echo and a storage emulator. The caller that starts it stops it. */
export class HostSide {
  readonly #args: readonly string[];
  readonly #servers: readonly Server[];
  #vproxy: VproxyProcess;

  private constructor(args: readonly string[], servers: readonly Server[]) {
    this.#args = args;
    this.#servers = servers;
    this.#vproxy = new VproxyProcess(args);
  }

  /** Starts everything on `channel`; `more` are further arguments for vproxy. */
  static async start(channel: string, more: readonly string[] = []): Promise<HostSide> {
    const echo = await listen((socket) => void socket.on('error', () => undefined).pipe(socket));
    const emulator = await listen((socket) => answer(socket, 'listening'));
    const outgoing = ['storage', ...GUEST_SERVICES].flatMap((service) => ['-o', `${service}:127.0.0.1:0`]);
    const incoming = ['-i', `storage:127.0.0.1:${portOf(emulator)}`, '-i', `host-echo:127.0.0.1:${portOf(echo)}`];
    return new HostSide(['-c', channel, ...outgoing, ...incoming, ...more], [echo, emulator]);
  }

  /** The most recently started vproxy. */
  get vproxy(): VproxyProcess {
    return this.#vproxy;
  }

  /** Starts a vproxy with the same arguments, after the previous one has exited. Its forwards get new ports. */
  startVproxy(): void {
    this.#vproxy = new VproxyProcess(this.#args);
  }

  /** The local port of the forward to a service of the guest. */
  port(service: GuestService | 'storage'): Promise<number> {
    return this.#vproxy.listeningPort(service);
  }

  async stop(): Promise<void> {
    await this.#vproxy.stop();
    for (const server of this.#servers) server.close();
  }
}
