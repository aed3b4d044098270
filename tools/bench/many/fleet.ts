/** Many channels in one process: a host's vproxy, and the other ends of its channels in a second process. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { connectControl } from '../../../lib/control/client/client.js';
import { eventually } from '../../../spec/helpers/time.js';
import { VPROXY_SCRIPT } from '../contenders/vproxy.js';
import type { Programs, RunningProgram } from '../process/programs.js';

const START_TIMEOUT_MS = 60_000;

/** A host with its channels, each over a unix socket of its own, each with a forward to an echo in the guest. */
export class Fleet {
  /** The process with many channels that is measured. */
  host: RunningProgram;
  /** The process that has all the guests' ends. */
  readonly guests: RunningProgram;
  readonly #count: number;
  readonly #programs: Programs;
  readonly #path: (name: string) => string;

  private constructor(count: number, programs: Programs, path: (name: string) => string) {
    this.#count = count;
    this.#programs = programs;
    this.#path = path;
    const echo = `echo:${path('echo.sock')}`;
    this.host = this.#start('host', (label) => ({
      address: `unix-listen:${path(`${label}.sock`)}`,
      outgoing: [`echo:${path(`${label}-echo.sock`)}`],
    }));
    this.guests = this.#start('guests', (label) => ({
      address: `unix-connect:${path(`${label}.sock`)}`,
      incoming: [echo],
    }));
  }

  /** Starts `count` channels. Resolves when each has echoed a byte. */
  static async start(count: number, programs: Programs, parent: string): Promise<Fleet> {
    const folder = mkdtempSync(join(parent, 'fleet-'));
    const path = (name: string): string => join(folder, name);
    const echo = net.createServer((socket) => socket.on('error', () => socket.destroy()).pipe(socket));
    echo.listen(path('echo.sock')).unref();
    const fleet = new Fleet(count, programs, path);
    try {
      for (const socket of await fleet.connect()) socket.destroy();
      return fleet;
    } catch (error) {
      await fleet.stop();
      throw new Error(`${String(error)}: ${fleet.host.lastLine()}`, { cause: error });
    }
  }

  /** Opens a connection through each channel, which has echoed a byte. */
  async connect(): Promise<net.Socket[]> {
    const sockets: net.Socket[] = [];
    for (const label of this.#labels) {
      const path = this.#path(`${label}-echo.sock`);
      sockets.push(
        await eventually(() => echoOnce(path), { timeoutMs: START_TIMEOUT_MS, what: `an echo of ${label}` }),
      );
    }
    return sockets;
  }

  /** Has the host hand over to a successor. Resolves with the time that both stood still, in milliseconds. */
  async upgrade(): Promise<number> {
    const { pid, durationMs } = await connectControl(this.#path('host.control')).upgrade();
    this.host = this.#programs.adopt(pid);
    return durationMs;
  }

  /** Ends both processes. */
  async stop(): Promise<void> {
    await Promise.all([this.host.stop(), this.guests.stop()]);
  }

  get #labels(): string[] {
    return Array.from({ length: this.#count }, (_, index) => `vm${index + 1}`);
  }

  #start(name: string, channel: (label: string) => object): RunningProgram {
    const file = this.#path(`${name}.json`);
    const channels = Object.fromEntries(this.#labels.map((label) => [label, channel(label)]));
    writeFileSync(file, JSON.stringify({ control: this.#path(`${name}.control`), channels }));
    return this.#programs.startScript(VPROXY_SCRIPT, ['--config', file, '--quiet']);
  }
}

/** Connects, sends a byte, and waits for it to come back. */
function echoOnce(path: string): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed')));
    socket.once('data', () => {
      socket
        .removeAllListeners('error')
        .removeAllListeners('close')
        .on('error', () => socket.destroy());
      resolve(socket);
    });
    socket.write('x');
  });
}
