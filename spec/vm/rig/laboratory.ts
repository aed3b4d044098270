/** A guest and this host with a vproxy on each side of the port, and what their forwards lead to. */
import { createServer, type Server } from 'node:net';

import { eventually } from '../../helpers/eventually.js';
import { ESTABLISHED } from '../../helpers/log-lines.js';
import { VproxyProcess } from '../../helpers/vproxy-process.js';
import { type Guest, PORT_PATH } from './guest.js';
import type { GuestJob } from './guest-job.js';
import { GUEST_PORTS } from './guest-ports.js';
import { GUEST_RIG, GUEST_VPROXY } from './initramfs.js';
import { listenAsEmulator } from './storage-emulators.js';

/** The services of the guest that the host has forwards to. */
export type GuestService = 'ssh' | 'echo' | 'source' | 'sink';

const GUEST_SERVICES: readonly GuestService[] = ['ssh', 'echo', 'source', 'sink'];

// The first start of a program under emulation, and a hello that is repeated every second.
const SESSION_MS = 40_000;

/** Holds both sides. A test restarts one of them, or the whole guest, and looks at what becomes of the other. */
export class Laboratory {
  readonly guest: Guest;
  readonly #hostEcho: Server;
  readonly #emulator: { port: number; close: () => void };
  #host: VproxyProcess | undefined;
  #guestVproxy: GuestJob | undefined;

  private constructor(guest: Guest, hostEcho: Server, emulator: { port: number; close: () => void }) {
    this.guest = guest;
    this.#hostEcho = hostEcho;
    this.#emulator = emulator;
  }

  /** Starts everything on a guest that is up, and waits for the session. */
  static async start(guest: Guest): Promise<Laboratory> {
    const hostEcho = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    await new Promise<void>((resolve) => hostEcho.listen(0, '127.0.0.1', resolve));
    const laboratory = new Laboratory(guest, hostEcho, await listenAsEmulator());
    laboratory.startHost();
    await laboratory.startGuest();
    await laboratory.waitForSession(0);
    return laboratory;
  }

  /** The vproxy of the host. */
  get host(): VproxyProcess {
    if (this.#host === undefined) throw new Error('the vproxy of the host was not started');
    return this.#host;
  }

  /** The vproxy of the guest. */
  get guestVproxy(): GuestJob {
    if (this.#guestVproxy === undefined) throw new Error('the vproxy of the guest was not started');
    return this.#guestVproxy;
  }

  /** Starts the vproxy of the host anew. Its forwards get new ports. */
  startHost(): void {
    const { port } = this.#hostEcho.address() as { port: number };
    const outgoing = ['storage', ...GUEST_SERVICES].flatMap((service) => ['-o', `${service}:127.0.0.1:0`]);
    const incoming = ['-i', `storage:127.0.0.1:${this.#emulator.port}`, '-i', `host-echo:127.0.0.1:${port}`];
    this.#host = new VproxyProcess(['-c', `unix-connect:${this.guest.channelPath}`, ...outgoing, ...incoming]);
  }

  /** Starts in the guest what a boot does not: the ssh server, what the forwards lead to, and vproxy. */
  async startGuest(): Promise<void> {
    const { agent } = this.guest;
    const dropbear = '-F -E -s -W 1048576 -r /etc/dropbear/host_key';
    await agent.spawn(['dropbear', ...dropbear.split(' '), '-p', `127.0.0.1:${GUEST_PORTS.ssh}`]);
    const services = await agent.spawn(['node', `${GUEST_RIG}/services.js`]);
    await this.startGuestVproxy();
    await eventually(async () => (await services.log()) === 'ready', { what: 'the services of the guest' });
  }

  /** Starts the vproxy of the guest anew. */
  async startGuestVproxy(): Promise<void> {
    const incoming = GUEST_SERVICES.flatMap((service) => ['-i', `${service}:127.0.0.1:${GUEST_PORTS[service]}`]);
    const outgoing = ['-o', `host-echo:127.0.0.1:${GUEST_PORTS.hostEcho}`];
    const args = ['-c', `virtserial-open:${PORT_PATH}`, ...incoming, ...outgoing];
    this.#guestVproxy = await this.guest.agent.spawn(['node', GUEST_VPROXY, ...args]);
  }

  /** The local port of the host's forward to a service of the guest. */
  port(service: GuestService | 'storage'): Promise<number> {
    return this.host.listeningPort(service);
  }

  /** Waits for a session whose line in the host's log has number `from` or a later one. */
  async waitForSession(from: number): Promise<void> {
    await this.host.waitForLine(ESTABLISHED, { from, timeoutMs: SESSION_MS });
  }

  /** The logs of both sides, for a test that failed. */
  async logs(): Promise<string> {
    const guestLog = await this.#guestVproxy?.log().catch(String);
    return `vproxy on the host:\n${this.#host?.lines.join('\n') ?? ''}\n\nvproxy in the guest:\n${guestLog ?? ''}\n`;
  }

  /** Stops what runs on the host. */
  async stop(): Promise<void> {
    await this.#host?.stop();
    this.#hostEcho.close();
    this.#emulator.close();
  }
}
