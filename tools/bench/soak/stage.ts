/** The setting of a soak: two real processes, the relay between them, and the targets of their forwards. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createStorageEmulator } from '../../../lib/index.js';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { VproxyProcess } from '../../../spec/helpers/vproxy-process.js';
import { type Exchanging, serveExchanges } from './exchange.js';
import type { Ledger, SideName } from './ledger.js';
import { FaultyRelay } from './relay.js';

/** The service that a side opens transfers to. */
export const UPWARDS: Readonly<Record<SideName, string>> = { host: 'up', guest: 'down' };

/**
 * Forwards of the host that never lead anywhere: nothing listens at the target, or the peer does not offer the service.
 */
export const HOPELESS = ['refused', 'missing'] as const;

/** Lines that a healthy process never logs. */
const BAD_LINE = /\(internal\)|uncaught|^\s+at .*\.js/i;

export class Stage {
  readonly relay: FaultyRelay;
  /** The processes; null while one is being restarted. */
  readonly sides: Record<SideName, VproxyProcess | null> = { host: null, guest: null };
  readonly storageSocket: string;
  /** The real wrapper, under the name of a utility. */
  readonly utility: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'vproxy-soak-'));
  readonly #exchanging: Exchanging;
  readonly #ledger: Ledger;
  readonly #channelOptions: string;
  readonly #targets: net.Server[] = [];
  readonly #sockets = new Set<net.Socket>();
  readonly #emulator = createStorageEmulator(({ argv }) => ({
    stdout: `${argv.slice(1).join(' ')}\n`,
    stderr: '',
    status: 0,
  }));
  readonly #arguments: Record<SideName, string[]> = { host: [], guest: [] };
  /** Whether the end of a process is intended. */
  #isExpected = false;

  /** `channelOptions` follow the address of the channel at both sides, each with a comma before it. */
  constructor(exchanging: Exchanging, channelOptions: string) {
    this.#exchanging = exchanging;
    this.#ledger = exchanging.ledger;
    this.#channelOptions = channelOptions;
    this.relay = new FaultyRelay(this.#path('guest.sock'), this.#path('host.sock'));
    this.storageSocket = this.#path('storage.sock');
    this.utility = this.#path('storcli64');
    symlinkSync(join(PROJECT_ROOT, 'dist/program/vproxy-storage.cjs'), this.utility);
  }

  async start(): Promise<void> {
    const up = await this.#serve('guest');
    const down = await this.#serve('host');
    const storage = await this.#emulator.listen({ host: '127.0.0.1', port: 0 });
    const storagePort = 'port' in storage ? storage.port : 0;
    const hopeless = HOPELESS.flatMap((service) => ['-o', `${service}:127.0.0.1:0`]);
    const host = ['-o', 'up:127.0.0.1:0', '-i', `down:${down}`, '-i', `storage:${storagePort}`, ...hopeless];
    const guest = ['-o', 'down:127.0.0.1:0', '-i', `up:${up}`, '-i', `refused:${this.#path('nobody')}`];
    this.#arguments.host = ['-c', `unix-listen:${this.#path('host.sock')}${this.#channelOptions}`, ...host];
    this.#arguments.guest = ['-c', `unix-connect:${this.#path('guest.sock')}${this.#channelOptions}`, ...guest];
    this.#arguments.guest.push('--storage-socket', this.storageSocket, '--storage-parallel', '4');
    await this.relay.start();
    this.launch('host');
    this.launch('guest');
  }

  /** Starts the process of a side, whose predecessor has exited. */
  launch(name: SideName): void {
    this.#ledger.countLaunch(name);
    const side = new VproxyProcess(this.#arguments[name], { hasOwnGroup: true });
    this.sides[name] = side;
    void side.exited.then((result) => {
      if (this.sides[name] !== side || this.#isExpected) return;
      this.#ledger.problem(
        `the ${name} ended by itself (${JSON.stringify(result)}): ${side.lines.slice(-5).join(' | ')}`,
      );
      this.launch(name);
    });
  }

  /** Ends the process of a side with a signal, and waits for its exit, and until its last connections are accepted. */
  async end(name: SideName, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const side = this.sides[name];
    if (side === null) return;
    this.sides[name] = null;
    this.#ledger.countKill(name);
    this.#lookAtLog(name, side);
    if (signal === 'SIGTERM') {
      const { code } = await side.stop();
      if (code === null) this.#ledger.problem(`the ${name} did not end within 3 s of SIGTERM`);
    } else side.kill(signal);
    await side.exited;
    for (let turn = 0; turn < 2; turn += 1) await nextTurn();
  }

  /** Resolves with the current port of a service's forward. Rejects when the side is not running or does not start. */
  async port(name: SideName, service: string): Promise<number> {
    const side = this.sides[name];
    if (side === null) throw new Error(`the ${name} is being restarted`);
    return side.listeningPort(service);
  }

  /** Connections to the targets that have not ended. */
  get openTargets(): number {
    return this.#sockets.size;
  }

  async stop(): Promise<void> {
    this.#isExpected = true;
    for (const [name, side] of Object.entries(this.sides)) {
      if (side === null) continue;
      side.kill('SIGCONT');
      this.#lookAtLog(name, side);
      await side.stop();
    }
    this.relay.stop();
    for (const socket of this.#sockets) socket.destroy();
    for (const target of this.#targets) target.close();
    await this.#emulator.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }

  #lookAtLog(name: string, { lines }: VproxyProcess): void {
    const bad = lines.find((line) => BAD_LINE.test(line));
    if (bad !== undefined) this.#ledger.problem(`the ${name} logged: ${bad}`);
  }

  /** A server that the incoming forward of a side dials; its port. */
  async #serve(name: SideName): Promise<number> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      serveExchanges(this.#exchanging, name, socket);
    });
    this.#targets.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as net.AddressInfo).port;
  }
}
