/** A guest and this host with a vproxy on each side of a channel between them. */
import { ESTABLISHED, type VproxyProcess } from '../../helpers/vproxy-process.js';
import type { GuestJob } from './agent.js';
import type { Guest } from './guest.js';
import { GUEST_PORTS, GUEST_SERVICES, type GuestService } from './guest-ports.js';
import { HostSide } from './host-side.js';
import { AWAIT_SERVICES, GUEST_VPROXY } from './initramfs.js';

/** The options of a laboratory; by default its channel is QEMU's socket of a virtio-serial port. */
interface LaboratoryPlan {
  readonly host?: (guest: Guest) => HostSide | Promise<HostSide>;
  /** The arguments of the guest's vproxy that name its channel, and more. */
  readonly guestArgs?: (guest: Guest) => readonly string[];
}

// Time for the first start of a program under emulation, and for a HELLO that is repeated every second, on a busy machine.
const SESSION_MS = 120_000;

/** Holds both sides. A test restarts one of them, or the whole guest, and checks the effect on the other. */
export class Laboratory {
  readonly guest: Guest;
  readonly #hostSide: HostSide;
  readonly #guestArgs: readonly string[];
  #guestVproxy: GuestJob | undefined;

  private constructor(guest: Guest, hostSide: HostSide, guestArgs: readonly string[]) {
    this.guest = guest;
    this.#hostSide = hostSide;
    this.#guestArgs = guestArgs;
  }

  /** Starts everything on a running guest, and waits for the session. */
  static async start(guest: Guest, plan: LaboratoryPlan = {}): Promise<Laboratory> {
    const hostSide = (await plan.host?.(guest)) ?? (await HostSide.start(`unix-connect:${guest.channelPath}`));
    const guestArgs = plan.guestArgs?.(guest) ?? ['-c', `virtserial-open:${guest.portPath}`];
    const laboratory = new Laboratory(guest, hostSide, guestArgs);
    try {
      await laboratory.startGuestVproxy();
      await laboratory.waitForSession(0);
    } catch (error) {
      const logs = await laboratory.logs();
      await laboratory.endGuestVproxy().catch(() => undefined);
      await laboratory.stop();
      throw new Error(`the session did not come: ${String(error)}\n${logs}`, { cause: error });
    }
    return laboratory;
  }

  /** The vproxy of the host. */
  get host(): VproxyProcess {
    return this.#hostSide.vproxy;
  }

  get guestVproxy(): GuestJob {
    if (this.#guestVproxy === undefined) throw new Error('the vproxy of the guest was not started');
    return this.#guestVproxy;
  }

  /** Restarts the vproxy of the host. Its forwards get new ports. */
  startHost(): void {
    this.#hostSide.startVproxy();
  }

  async killHost(): Promise<void> {
    this.host.kill('SIGKILL');
    await this.host.exited;
  }

  /** Starts the vproxy of the guest, as after a boot, or restarts it. */
  async startGuestVproxy(): Promise<void> {
    await this.guest.agent.output(AWAIT_SERVICES, { timeoutMs: SESSION_MS });
    const incoming = GUEST_SERVICES.flatMap((service) => ['-i', `${service}:127.0.0.1:${GUEST_PORTS[service]}`]);
    const outgoing = ['-o', `host-echo:127.0.0.1:${GUEST_PORTS.hostEcho}`];
    const words = ['node', GUEST_VPROXY, ...this.#guestArgs, ...incoming, ...outgoing];
    this.#guestVproxy = await this.guest.agent.spawn(words);
  }

  /** Stops the vproxy of the guest, which frees its port, and resolves with its status. */
  async endGuestVproxy(signal: 'KILL' | 'TERM' = 'KILL'): Promise<number> {
    await this.guestVproxy.kill(signal);
    return this.guestVproxy.waitForEnd(SESSION_MS);
  }

  /** The local port of the host's forward to a service of the guest. */
  port(service: GuestService | 'storage'): Promise<number> {
    return this.#hostSide.port(service);
  }

  /** Waits for a session whose line in the host's log has number `from` or a later one. */
  async waitForSession(from: number): Promise<void> {
    await this.host.waitForLine(ESTABLISHED, { from, timeoutMs: SESSION_MS });
  }

  /** The logs of both sides, for a test that failed. */
  async logs(): Promise<string> {
    const guestLog = await this.#guestVproxy?.log().catch(String);
    return `vproxy on the host:\n${this.host.lines.join('\n')}\n\nvproxy in the guest:\n${guestLog ?? ''}\n`;
  }

  /** Stops everything on the host. */
  async stop(): Promise<void> {
    await this.#hostSide.stop();
  }
}
