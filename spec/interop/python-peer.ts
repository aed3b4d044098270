/** The second implementation of the protocol, `peer.py`, as a process that a test drives line by line. */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';
import { within } from '../helpers/time.js';

const FOLDER = join(PROJECT_ROOT, 'spec/interop');
const MISSING = 'the interoperability tests need python3 (3.9 or newer): apt-get install python3';

/** A line of `peer.py`; the fields depend on the event. */
export interface PeerEvent {
  readonly event: string;
  readonly key?: string;
  readonly code?: string | null;
  readonly message?: string;
  readonly service?: string;
  readonly services?: readonly string[];
  /** The number of streams that this program's peer had open, including the one of the event. */
  readonly streams?: number;
  readonly received?: number;
  readonly receivedHash?: string;
  readonly sent?: number;
  /** The message of a flow. */
  readonly hash?: string;
  readonly sentHash?: string;
  readonly parity?: 'odd' | 'even';
  readonly integrity?: 'frame' | 'full';
  readonly skipped?: number;
}

export type EventPattern = Partial<PeerEvent>;

interface Waiter {
  readonly pattern: EventPattern;
  readonly resolve: (event: PeerEvent) => void;
  readonly reject: (error: Error) => void;
}

function isMatch(event: PeerEvent, pattern: EventPattern): boolean {
  return Object.entries(pattern).every(([name, value]) => event[name as keyof PeerEvent] === value);
}

/** One side of a channel in Python; killed when the test ends. */
export class PythonPeer {
  readonly events: PeerEvent[] = [];
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #taken = new Set<PeerEvent>();
  readonly #waiters = new Set<Waiter>();
  readonly #exited: Promise<void>;
  #errors = '';
  #failure: Error | undefined;

  constructor(t: ExecutionContext, channel: string, args: readonly string[] = []) {
    this.#child = spawn('python3', ['-B', join(FOLDER, 'peer.py'), channel, ...args]);
    this.#child.stdin.on('error', () => undefined);
    this.#child.stderr.on('data', (text: Buffer) => {
      this.#errors += text.toString();
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#take(JSON.parse(line) as PeerEvent));
    this.#exited = new Promise((resolve) => {
      this.#child.once('error', (error: NodeJS.ErrnoException) => {
        this.#fail(error.code === 'ENOENT' ? MISSING : error.message);
        resolve();
      });
      this.#child.once('close', () => {
        this.#fail(`peer.py has ended: ${this.#errors}`);
        resolve();
      });
    });
    t.teardown(() => this.kill());
  }

  /** Kills the process with SIGKILL, and waits until it has exited. */
  kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    return this.#exited;
  }

  /** Sends it a command: a method `do_…` of the class Peer in `peer.py`, with its arguments. */
  do(command: string, args: Readonly<Record<string, unknown>> = {}): void {
    this.#child.stdin.write(`${JSON.stringify({ do: command, ...args })}\n`);
  }

  /**
   * The first event that matches `pattern` and was not returned by an earlier call, even one that came before this
   * call. `timeoutMs` is 30,000 by default.
   */
  async next(event: string, pattern: EventPattern = {}, timeoutMs = 30_000): Promise<PeerEvent> {
    const whole = { event, ...pattern };
    const found = this.events.find((it) => !this.#taken.has(it) && isMatch(it, whole));
    if (found !== undefined) {
      this.#taken.add(found);
      return found;
    }
    if (this.#failure !== undefined) throw this.#failure;
    const coming = new Promise<PeerEvent>((resolve, reject) => {
      this.#waiters.add({ pattern: whole, resolve, reject });
    });
    return within(timeoutMs, `the event ${JSON.stringify(whole)}`, coming).catch((error: unknown) => {
      const seen = this.events.map((it) => JSON.stringify(it)).join('\n');
      throw new Error(`${String(error)}; there were\n${seen}\n${this.#errors}`, { cause: error });
    });
  }

  /** Opens a stream, sends this many bytes on it, and ends its direction. */
  transfer(key: string, service: string, count: number): void {
    this.do('open', { key, service });
    this.do('send', { key, count });
    this.do('fin', { key });
  }

  /** Whether no session has ended, and nothing wrong has come. */
  get isUndisturbed(): boolean {
    return !this.events.some(({ event }) => event === 'session-ended' || event === 'wrong');
  }

  #take(event: PeerEvent): void {
    this.events.push(event);
    for (const waiter of this.#waiters) {
      if (!isMatch(event, waiter.pattern)) continue;
      this.#waiters.delete(waiter);
      this.#taken.add(event);
      waiter.resolve(event);
      return;
    }
  }

  #fail(message: string): void {
    this.#failure ??= new Error(message);
    for (const waiter of this.#waiters) waiter.reject(this.#failure);
    this.#waiters.clear();
  }
}

/** The output of `fixtures.py` for the project's recorded frames. */
export function checkFixtures(): Promise<string> {
  const args = ['-B', join(FOLDER, 'fixtures.py'), join(PROJECT_ROOT, 'spec/fixtures/frames.json')];
  return new Promise((resolve, reject) => {
    execFile('python3', args, (error, stdout, stderr) => {
      if (error !== null) reject(new Error(error.code === 'ENOENT' ? MISSING : stderr));
      else resolve(stdout);
    });
  });
}
