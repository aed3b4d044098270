/** A guest and this host with a vproxy on each side of a channel between them. */
import { ESTABLISHED, type VproxyProcess } from '../../helpers/vproxy-process.js';
import type { Guest } from './guest.js';
import type { GuestJob } from './guest-job.js';
import type { GuestPlan } from './guest-options.js';
import { GUEST_PORTS, GUEST_SERVICES, type GuestService } from './guest-ports.js';
import { HostSide } from './host-side.js';
import { AWAIT_SERVICES, GUEST_VPROXY } from './initramfs.js';

/** How a laboratory differs from the usual one, whose channel is QEMU's socket of a virtio-serial port. */
export interface LaboratoryPlan {
  /** The plan of the guest. It is called before QEMU is started. */
  readonly guest?: GuestPlan;
  /** Starts the host's side, or returns one that was started before. */
  readonly host?: (guest: Guest) => HostSide | Promise<HostSide>;
  /** The arguments of the guest's vproxy that name its channel, and further forwards. */
  readonly guestArgs?: (guest: Guest) => readonly string[];
  /** Whether the guest's vproxy starts with the usual forwards. Default true. */
  readonly hasGuestForwards?: boolean;
  /** The words that start vproxy in the guest. Default: Node and the built project. */
  readonly guestProgram?: readonly string[];
  /** Set on top of the environment of the guest's vproxy. Default: nothing. */
  readonly guestEnvironment?: Readonly<Record<string, string>>;
}

// The first start of a program under emulation, and a hello that is repeated every second, on a busy machine.
const SESSION_MS = 120_000;

/** Holds both sides. A test restarts one of them, or the whole guest, and checks the effect on the other. */
export class Laboratory {
  readonly guest: Guest;
  readonly #hostSide: HostSide;
  readonly #plan: LaboratoryPlan;
  #guestVproxy: GuestJob | undefined;

  private constructor(guest: Guest, hostSide: HostSide, plan: LaboratoryPlan) {
    this.guest = guest;
    this.#hostSide = hostSide;
    this.#plan = plan;
  }

  /** Starts everything on a guest that is up, and waits for the session. */
  static async start(guest: Guest, plan: LaboratoryPlan = {}): Promise<Laboratory> {
    const hostSide = (await plan.host?.(guest)) ?? (await HostSide.start(`unix-connect:${guest.channelPath}`));
    const laboratory = new Laboratory(guest, hostSide, plan);
    try {
      await laboratory.startGuestVproxy();
      await laboratory.waitForSession(0);
    } catch (error) {
      const logs = await laboratory.logs();
      await laboratory.endGuestVproxy();
      await laboratory.stop();
      throw new Error(`the session did not come: ${String(error)}\n${logs}`, { cause: error });
    }
    return laboratory;
  }

  /** The vproxy of the host. */
  get host(): VproxyProcess {
    return this.#hostSide.vproxy;
  }

  /** The vproxy of the guest. */
  get guestVproxy(): GuestJob {
    if (this.#guestVproxy === undefined) throw new Error('the vproxy of the guest was not started');
    return this.#guestVproxy;
  }

  /** Starts the vproxy of the host again. Its forwards get new ports. */
  startHost(): void {
    this.#hostSide.startVproxy();
  }

  /** Starts the vproxy of the guest, as after a boot, or again. */
  async startGuestVproxy(): Promise<void> {
    await this.guest.agent.output(AWAIT_SERVICES, { timeoutMs: SESSION_MS });
    const { guestArgs, hasGuestForwards = true, guestEnvironment = {}, guestProgram } = this.#plan;
    const channel = guestArgs?.(this.guest) ?? ['-c', `virtserial-open:${this.guest.portPath}`];
    const incoming = GUEST_SERVICES.flatMap((service) => ['-i', `${service}:127.0.0.1:${GUEST_PORTS[service]}`]);
    const outgoing = ['-o', `host-echo:127.0.0.1:${GUEST_PORTS.hostEcho}`];
    const forwards = hasGuestForwards ? [...incoming, ...outgoing] : [];
    const environment = Object.entries(guestEnvironment).map(([name, value]) => `${name}=${value}`);
    const command = [...(guestProgram ?? ['node', GUEST_VPROXY]), ...channel, ...forwards];
    // env is replaced by the program that it starts, so that the job is vproxy.
    const words = environment.length === 0 ? command : ['env', ...environment, ...command];
    this.#guestVproxy = await this.guest.agent.spawn(words);
  }

  /** Ends the vproxy of the guest, if it runs: its ports are free for that of another laboratory. */
  async endGuestVproxy(): Promise<void> {
    await this.#guestVproxy?.kill('KILL').catch(() => undefined);
    await this.#guestVproxy?.waitForEnd();
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

  /** Stops what runs on the host. */
  async stop(): Promise<void> {
    await this.#hostSide.stop();
  }
}
