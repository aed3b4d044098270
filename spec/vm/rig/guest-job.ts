/** A program that runs in the background in the guest. */
import type { Agent } from './agent.js';

/** The handle of a program that `Agent.spawn` started. It ends with the guest. */
export class GuestJob {
  readonly pid: number;
  readonly #agent: Agent;
  readonly #logFile: string;
  readonly #waitForEnd: (timeoutMs: number) => Promise<number>;

  constructor(agent: Agent, pid: number, logFile: string, waitForEnd: (timeoutMs: number) => Promise<number>) {
    this.#agent = agent;
    this.pid = pid;
    this.#logFile = logFile;
    this.#waitForEnd = waitForEnd;
  }

  /** What it wrote to stdout and stderr so far. */
  log(): Promise<string> {
    return this.#agent.output(`cat ${this.#logFile}`);
  }

  /** Sends it a signal, given without `SIG`. */
  async kill(signal: 'TERM' | 'KILL' | 'INT' | 'HUP'): Promise<void> {
    await this.#agent.output(`kill -${signal} ${this.pid}`);
  }

  /** Its exit status, or 128 and the signal's number. Rejects when it still runs after `timeoutMs`. */
  waitForEnd(timeoutMs = 60_000): Promise<number> {
    return this.#waitForEnd(timeoutMs);
  }

  /** How often its main thread had waited for something, and went on. */
  async wakeUps(): Promise<number> {
    const text = await this.#agent.output(`cat /proc/${this.pid}/status`);
    return Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(text)?.[1]);
  }
}
