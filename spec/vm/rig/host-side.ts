/** The host's side of a channel: its vproxy, and what the forwards of the guest lead to. */
import { createServer, type Server } from 'node:net';

import { VproxyProcess } from '../../helpers/vproxy-process.js';
import { GUEST_SERVICES, type GuestService } from './guest-ports.js';
import { listenAsEmulator } from './storage-emulators.js';

type Emulator = Awaited<ReturnType<typeof listenAsEmulator>>;

/** Holds the vproxy of the host, an echo and a storage emulator. The caller that starts it stops it. */
export class HostSide {
  readonly #args: readonly string[];
  readonly #echo: Server;
  readonly #emulator: Emulator;
  #vproxy: VproxyProcess;

  private constructor(args: readonly string[], echo: Server, emulator: Emulator) {
    this.#args = args;
    this.#echo = echo;
    this.#emulator = emulator;
    this.#vproxy = new VproxyProcess(args);
  }

  /** Starts everything on `channel`; `more` are further arguments for vproxy. `hasForwards` is true by default. */
  static async start(
    channel: string,
    more: readonly string[] = [],
    { hasForwards = true }: { readonly hasForwards?: boolean } = {},
  ): Promise<HostSide> {
    const echo = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
    const { port } = echo.address() as { port: number };
    const emulator = await listenAsEmulator();
    const outgoing = ['storage', ...GUEST_SERVICES].flatMap((service) => ['-o', `${service}:127.0.0.1:0`]);
    const incoming = ['-i', `storage:127.0.0.1:${emulator.port}`, '-i', `host-echo:127.0.0.1:${port}`];
    const forwards = hasForwards ? [...outgoing, ...incoming] : [];
    return new HostSide(['-c', channel, ...forwards, ...more], echo, emulator);
  }

  /** The vproxy that was started last. */
  get vproxy(): VproxyProcess {
    return this.#vproxy;
  }

  /** Starts a vproxy with the same arguments, after the one before it has ended. Its forwards get new ports. */
  startVproxy(): void {
    this.#vproxy = new VproxyProcess(this.#args);
  }

  /** The local port of the forward to a service of the guest. */
  port(service: GuestService | 'storage'): Promise<number> {
    return this.#vproxy.listeningPort(service);
  }

  /** Stops everything. */
  async stop(): Promise<void> {
    await this.#vproxy.stop();
    this.#echo.close();
    this.#emulator.close();
  }
}
