/** A program under test as a process, its channel, and the programs at its streams: unix sockets that it dials or listens on. */
import { type ChildProcess, spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { DEFAULT_LIMITS, type Limits } from '../lib/codec/limits.js';
import { KEY } from './frame-maker.js';

/** The newest lines of its stderr that a report shows. */
const MAX_LINES = 10;

/** The first bytes of its output that are kept. */
const MAX_HEAD_BYTES = 200;

/** How long its exit may take once its channel is closed. */
const EXIT_MS = 400;

/** The pause between two attempts to connect. */
const RETRY_MS = 20;

/** The program at the other end of a stream's local socket. It reads nothing until it is told to. */
export class LocalEnd {
  received: Buffer = Buffer.alloc(0);
  sent: Buffer = Buffer.alloc(0);
  hasEnded = false;
  readonly socket: net.Socket;

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    for (const event of ['end', 'close']) socket.on(event, () => (this.hasEnded = true));
  }

  send(bytes: Buffer): void {
    this.sent = Buffer.concat([this.sent, bytes]);
    this.socket.write(bytes);
  }

  read(): void {
    if (this.socket.listenerCount('data') > 0) return;
    this.socket.on('data', (chunk: Buffer) => (this.received = Buffer.concat([this.received, chunk])));
    this.socket.resume();
  }
}

async function connectTo(path: string): Promise<net.Socket> {
  const socket = net.connect({ path, allowHalfOpen: true }).pause();
  await once(socket, 'connect');
  return socket;
}

/** The first value of `look` that is no rejection; past the time, rejects with the last one. */
async function eventually<T>(look: () => Promise<T>, timeoutMs: number, what: string): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await look();
    } catch (cause) {
      if (performance.now() > end)
        throw new Error(`${what} did not come within ${timeoutMs} ms (${(cause as Error).message})`, { cause });
    }
    await delay(RETRY_MS);
  }
}

export interface Channel {
  readonly input: Readable;
  readonly output: Writable;
}

export class Program {
  /** The connections that it has made to `target`. */
  readonly dialled: LocalEnd[] = [];
  readonly said: string[] = [];
  readonly #folder = mkdtempSync(join(tmpdir(), 'conformance-'));
  readonly #target = net.createServer({ pauseOnConnect: true, allowHalfOpen: true });
  readonly #flow = dgram.createSocket('udp4');
  #child!: ChildProcess;
  #closed!: Promise<void>;
  #head = '';
  #path: string | null = null;
  #far: LocalEnd[] = [];
  /** Whether it leaves, or may keep a connection to `far` for its next session: another conversation needs another process. */
  #isSpent = false;

  /** Starts the command, in which words in braces are replaced: a limit, or one of its places. */
  static async start(command: readonly string[], limits: Partial<Limits>): Promise<Program> {
    const program = new Program();
    await program.#start(command, limits);
    return program;
  }

  async #start(command: readonly string[], limits: Partial<Limits>): Promise<void> {
    const [path, target, far, key] = ['path', 'target', 'far', 'key'].map((name) => join(this.#folder, name));
    this.#target.on('connection', (socket) => this.dialled.push(new LocalEnd(socket))).listen(target);
    this.#flow.bind(0, '127.0.0.1');
    await Promise.all([once(this.#target, 'listening'), once(this.#flow, 'listening')]);
    writeFileSync(key as string, `${KEY.toString('hex')}\n`, { mode: 0o600 });
    const numbers = { flow: this.#flow.address().port, ...DEFAULT_LIMITS, ...limits };
    const values: Readonly<Record<string, string | number | undefined>> = { path, target, far, key, ...numbers };
    const [file = '', ...words] = command.map((word) =>
      word.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)),
    );
    const child = spawn(file, words, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child = child;
    this.#closed = new Promise((resolve) => child.once('close', () => resolve()));
    child.on('error', ({ message }) => this.said.push(message));
    for (const end of [child.stdin, child.stdout]) end.on('error', () => undefined);
    createInterface({ input: child.stderr }).on('line', (line) =>
      this.said.splice(0, this.said.push(line) - MAX_LINES),
    );
    if (!command.join().includes('{path}')) return;
    this.#path = path ?? null;
    child.stdout.on('data', (chunk: Buffer) => {
      if (this.#head.length < MAX_HEAD_BYTES) this.#head += chunk.toString();
    });
  }

  /** What it did instead of opening a session, as a clause; `head`: the first bytes that came over its channel. */
  async describeConduct(head: Buffer): Promise<string | null> {
    await Promise.race([this.#closed, delay(EXIT_MS)]);
    const text = (head.toString('utf8', 0, MAX_HEAD_BYTES) || this.#head).trim();
    const line = /^[\t\x20-\x7e\xa0-\ufffc]+/.exec(text)?.[0] ?? '';
    const { exitCode, signalCode } = this.#child;
    const end = signalCode === null ? `exited with status ${exitCode}` : `was killed by ${signalCode}`;
    const wrote = line === '' ? [] : [`wrote "${line}", not vproxy frames`];
    const clauses = [...wrote, ...(this.#hasExited && exitCode !== -2 ? [end] : [])];
    return clauses.length === 0 ? null : `the program ${clauses.join(', and ')}`;
  }

  get isOver(): boolean {
    return this.#isSpent || this.#hasExited;
  }

  get #hasExited(): boolean {
    const { exitCode, signalCode, pid } = this.#child;
    return exitCode !== null || signalCode !== null || pid === undefined;
  }

  /** Its standard input and output; or another connection to its socket. */
  async open(timeoutMs: number): Promise<Channel> {
    const path = this.#path;
    if (path === null) return { input: this.#child.stdout as Readable, output: this.#child.stdin as Writable };
    const dial = async (): Promise<net.Socket | 'over'> => (this.isOver ? 'over' : connectTo(path));
    const socket = await eventually(dial, timeoutMs, 'a connection to {path}');
    if (socket === 'over') throw new Error('the program has exited');
    return { input: socket, output: socket };
  }

  /** Connects to its listener for `far`. */
  async dial(timeoutMs: number): Promise<LocalEnd> {
    this.#isSpent = true;
    const path = join(this.#folder, 'far');
    const end = new LocalEnd(await eventually(() => connectTo(path), timeoutMs, 'a connection to {far}'));
    this.#far.push(end);
    return end;
  }

  terminate(): void {
    this.#isSpent = true;
    this.#child.kill('SIGTERM');
  }

  /** Forgets the connections of an earlier conversation. */
  hangUp(): void {
    for (const { socket } of [...this.dialled.splice(0), ...this.#far.splice(0)]) socket.destroy();
  }

  async stop(): Promise<void> {
    this.hangUp();
    this.#target.close();
    this.#flow.close();
    const exited = this.#hasExited ? null : once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
