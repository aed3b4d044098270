/** A program that runs in the background in the guest. */
import type { Agent } from './agent.js';

/** What a process has used of its processor. */
export interface ProcessorUse {
  /** In milliseconds. On a processor that is emulated it says little: each step takes many times what it does elsewhere. */
  readonly timeMs: number;
  /** How often its main thread had waited for something, and went on. */
  readonly wakeUps: number;
}

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
  waitForEnd(timeoutMs = 10_000): Promise<number> {
    return this.#waitForEnd(timeoutMs);
  }

  /** What it has used of the processor since it was started. */
  async use(): Promise<ProcessorUse> {
    const text = await this.#agent.output(`cat /proc/${this.pid}/stat /proc/${this.pid}/status`);
    const [stat = ''] = text.split('\n');
    // The name of the program, in parentheses, may have spaces; utime and stime are fields 14 and 15, in 1/100 s.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const wakeUps = Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(text)?.[1]);
    return { timeMs: (Number(fields[11]) + Number(fields[12])) * 10, wakeUps };
  }
}
