/** QEMU's machine protocol: commands with answers, events, and jobs that run for some time. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { deferred } from '../../../lib/util/concurrency.js';
import { eventually, within } from '../../helpers/time.js';

interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

type QmpMessage =
  | { readonly QMP: unknown }
  | QmpEvent
  | { readonly id: number; readonly return: unknown }
  | { readonly id: number; readonly error: { readonly class: string; readonly desc: string } };

const ANSWER_MS = 60_000;
const JOB_MS = 120_000;

/** Waits on a unix socket for QEMU, which connects its monitor to it. */
export class Qmp {
  /** Every event so far, oldest first. */
  readonly events: QmpEvent[] = [];
  readonly #server: Server;
  readonly #pending = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  readonly #connected = deferred();
  #socket: Socket | undefined;
  #lastId = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.#socket = socket;
      socket.on('error', () => undefined);
      const lines = createInterface({ input: socket });
      // It repeats the error of a socket whose QEMU was killed.
      lines.on('error', () => undefined).on('line', (line) => this.#handle(JSON.parse(line) as QmpMessage));
      this.#connected.resolve();
    });
  }

  /** Listens at `path`. */
  static async listen(path: string): Promise<Qmp> {
    const server = createServer().listen(path);
    await once(server, 'listening');
    return new Qmp(server);
  }

  /** Waits for QEMU and leaves the protocol's first mode. */
  async start(): Promise<void> {
    await within(ANSWER_MS, 'QEMU', this.#connected.promise);
    await this.execute('qmp_capabilities');
  }

  /** Executes a command and returns its result. Rejects with QEMU's message. */
  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    const answer = new Promise<unknown>((resolve, reject) => this.#pending.set(id, { resolve, reject }));
    this.#socket?.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    try {
      return await within(ANSWER_MS, `QEMU's answer to ${command}`, answer);
    } finally {
      this.#pending.delete(id);
    }
  }

  /** Executes a command that starts a job, waits for its end, and rejects if it failed. */
  async executeJob(command: string, args: Readonly<Record<string, unknown>>): Promise<void> {
    this.#lastId += 1;
    const id = `job${this.#lastId}`;
    await this.execute(command, { 'job-id': id, ...args });
    const isConcluded = ({ event, data }: QmpEvent) =>
      event === 'JOB_STATUS_CHANGE' && data?.['id'] === id && data['status'] === 'concluded';
    await eventually(() => this.events.some(isConcluded), { timeoutMs: JOB_MS, what: `the end of ${command}` });
    const jobs = (await this.execute('query-jobs')) as { id: string; error?: string }[];
    await this.execute('job-dismiss', { id });
    const error = jobs.find((job) => job.id === id)?.error;
    if (error !== undefined) throw new Error(`QEMU's ${command} failed: ${error}`);
  }

  close(): void {
    this.#socket?.destroy();
    this.#server.close();
  }

  #handle(message: QmpMessage): void {
    if ('event' in message) this.events.push(message);
    else if ('error' in message) this.#pending.get(message.id)?.reject(new Error(`QEMU: ${message.error.desc}`));
    else if ('return' in message) this.#pending.get(message.id)?.resolve(message.return);
  }
}
