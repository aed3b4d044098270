/** The rig's side of the agent: runs commands in the guest without vproxy. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { eventually, within } from '../../helpers/time.js';
import type { AgentHello, AgentOperation, AgentReply, RunAnswer, SpawnAnswer, WaitAnswer } from './agent-wire.js';

/** `eventually` for checks in the guest, each of which costs an emulated processor more than the pauses of `eventually` leave. */
export const eventuallyInGuest: typeof eventually = (look, options) =>
  eventually(look, { intervalMs: 300, timeoutMs: 120_000, ...options });

/** A program that runs in the background in the guest. It ends with the guest. */
export interface GuestJob {
  readonly pid: number;
  /** What it wrote to stdout and stderr so far. */
  log(): Promise<string>;
  kill(signal: 'TERM' | 'KILL'): Promise<unknown>;
  /** Resolves with its exit status, or 128 + the signal number. Rejects when it still runs after `timeoutMs` (default 60,000). */
  waitForEnd(timeoutMs?: number): Promise<number>;
}

interface Pending {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

// The agent has its own timeout; this one is for a guest that hangs or has exited.
const GRACE_MS = 10_000;

/** Waits on a unix socket for QEMU, which connects the agent's port to it. */
export class Agent {
  readonly #server: Server;
  readonly #pending = new Map<number, Pending>();
  readonly #greeted = new Set<() => void>();
  #socket: Socket | undefined;
  #agent = '';
  #lastId = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.#socket = socket;
      socket.on('error', () => undefined);
      const lines = createInterface({ input: socket });
      // It repeats the error of a socket whose QEMU was killed.
      lines.on('error', () => undefined).on('line', (line) => this.#handleLine(line));
    });
  }

  /** Listens at `path`. */
  static async listen(path: string): Promise<Agent> {
    const server = createServer().listen(path);
    await once(server, 'listening');
    return new Agent(server);
  }

  /** Resolves with the next greeting of an agent: after a boot, or an answer to `greet`. */
  waitForHello(timeoutMs: number): Promise<void> {
    const came = new Promise<void>((resolve) => this.#greeted.add(resolve));
    return within(timeoutMs, 'the agent of the guest', came);
  }

  /** Asks the current agent for a greeting: after loading a snapshot, it may be that of an earlier boot. */
  async greet(): Promise<void> {
    const came = this.waitForHello(GRACE_MS);
    this.#send({ op: 'hello' });
    await came;
  }

  /** Runs a line of shell in the guest. Rejects after `timeoutMs` (default 60,000), or when the guest restarts. */
  async run(command: string, { timeoutMs = 60_000 }: { timeoutMs?: number } = {}): Promise<RunAnswer> {
    const { stdout, stderr, status } = (await this.#ask({ op: 'run', command, timeoutMs }, timeoutMs)) as RunAnswer;
    const text = (base64: string) => Buffer.from(base64, 'base64').toString();
    return { stdout: text(stdout), stderr: text(stderr), status };
  }

  /** Runs a line of shell that must succeed, and returns what it printed, without the newline at its end. */
  async output(command: string, options: { timeoutMs?: number } = {}): Promise<string> {
    const { stdout, stderr, status } = await this.run(command, options);
    if (status !== 0) throw new Error(`status ${status} in the guest: ${command}\n${stderr}`);
    return stdout.trimEnd();
  }

  /** Starts a program in the guest and leaves it running. */
  async spawn(argv: readonly string[]): Promise<GuestJob> {
    const { pid, log } = (await this.#ask({ op: 'spawn', argv })) as SpawnAnswer;
    return {
      pid,
      log: () => this.output(`cat ${log}`),
      kill: (signal) => this.output(`kill -${signal} ${pid}`),
      waitForEnd: async (timeoutMs = 60_000) =>
        ((await this.#ask({ op: 'wait', pid }, timeoutMs)) as WaitAnswer).status,
    };
  }

  /** Stops listening. Rejects pending requests. */
  close(): void {
    this.#forgetPending('the rig was stopped');
    this.#socket?.destroy();
    this.#server.close();
  }

  async #ask(operation: AgentOperation, timeoutMs = 0): Promise<unknown> {
    let id = 0;
    const answer = new Promise<unknown>((resolve, reject) => {
      id = this.#send(operation);
      this.#pending.set(id, { resolve, reject });
    });
    try {
      return await within(timeoutMs + GRACE_MS, `the guest's answer to ${JSON.stringify(operation)}`, answer);
    } finally {
      this.#pending.delete(id);
    }
  }

  #send(operation: AgentOperation): number {
    if (this.#socket === undefined) throw new Error('QEMU has not connected the port of the agent');
    this.#lastId += 1;
    this.#socket.write(`${JSON.stringify({ id: this.#lastId, agent: this.#agent, ...operation })}\n`);
    return this.#lastId;
  }

  #handleLine(line: string): void {
    let message: AgentHello | AgentReply;
    try {
      message = JSON.parse(line) as AgentHello | AgentReply;
    } catch {
      // Half a line of a guest that was reset.
      return;
    }
    if ('hello' in message) {
      if (message.hello !== this.#agent) this.#forgetPending('the guest, or its agent, was started anew');
      this.#agent = message.hello;
      for (const greeted of this.#greeted) greeted();
      this.#greeted.clear();
      return;
    }
    // A restored snapshot sends some replies twice; an id that is not pending was already answered.
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    if ('error' in message) pending.reject(new Error(`in the guest: ${message.error}`));
    else pending.resolve(message.answer);
  }

  #forgetPending(why: string): void {
    for (const pending of this.#pending.values()) pending.reject(new Error(why));
    this.#pending.clear();
  }
}
