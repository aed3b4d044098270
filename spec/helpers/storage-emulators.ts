/** Small emulators that behave as existing ones do, without any code of vproxy. */
import { createConnection, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { ExecutionContext } from 'ava';
import { localServer } from './local-server.js';

/** What an emulator does with a command line: answer, send these bytes, die (break off), or never answer. */
export type Behaviour = { stdout: string; stderr: string; status: number } | Buffer | 'die' | 'hang';

/** Decides what happens to a request; each is seen once, with its command line and all of its fields. */
export type Decide = (argv: string[], fields: Record<string, unknown>) => Behaviour | Promise<Behaviour>;

/** Answers with the arguments, so that every call can tell its own reply. */
export const echo: Decide = (argv) => ({ stdout: `${argv.slice(1).join(' ')}\n`, stderr: '', status: 0 });

/** A running emulator. */
export interface FieldEmulator {
  readonly port: number;
  /** The command lines that it saw, joined, in order. */
  readonly requests: string[];
  /** The most requests that it had at once. */
  readonly mostAtOnce: number;
  /** Breaks off all connections, and accepts or dials no more. */
  stop(): void;
}

class Emulator implements FieldEmulator {
  port = 0;
  readonly requests: string[] = [];
  readonly sockets = new Set<Socket>();
  server: Awaited<ReturnType<typeof localServer>> | undefined;
  mostAtOnce = 0;
  #atOnce = 0;
  readonly #decide: Decide;

  constructor(decide: Decide) {
    this.#decide = decide;
  }

  keep(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.sockets.delete(socket));
  }

  /** Answers one request; false when that ended the connection. */
  async answer(socket: Socket, request: string): Promise<boolean> {
    const fields = JSON.parse(request) as Record<string, unknown>;
    const argv = fields['argv'] as string[];
    this.requests.push(argv.slice(1).join(' '));
    this.#atOnce += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#atOnce);
    const behaviour = await this.#decide(argv, fields);
    this.#atOnce -= 1;
    if (behaviour === 'hang') {
      await new Promise((resolve) => socket.once('end', resolve).once('close', resolve));
      return false;
    }
    if (behaviour === 'die') {
      socket.destroy();
      return false;
    }
    socket.write(Buffer.isBuffer(behaviour) ? behaviour : `${JSON.stringify(behaviour)}\n`);
    return true;
  }

  stop(): void {
    this.server?.close();
    for (const socket of this.sockets) socket.destroy();
  }
}

/** Reads a socket as `recv(1024)` does. */
class Receiver {
  #held = Buffer.alloc(0);
  #isEnded = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    socket.on('data', (chunk) => {
      this.#held = Buffer.concat([this.#held, chunk]);
      this.#wake();
    });
    const end = () => {
      this.#isEnded = true;
      this.#wake();
    };
    socket.once('end', end).once('close', end);
  }

  /** At most 1024 bytes; an empty buffer at the end. */
  async receive(): Promise<Buffer> {
    while (this.#held.length === 0 && !this.#isEnded) await new Promise<void>((resolve) => (this.#wake = resolve));
    const bytes = this.#held.subarray(0, 1024);
    this.#held = this.#held.subarray(1024);
    return bytes;
  }
}

/** Serves a connection with one `recv(1024)` for each request; broken JSON ends it. */
async function serveSingleReads(emulator: Emulator, socket: Socket, receiver: Receiver): Promise<void> {
  for (let bytes = await receiver.receive(); bytes.length > 0; bytes = await receiver.receive()) {
    try {
      if (!(await emulator.answer(socket, bytes.toString()))) return;
    } catch {
      break;
    }
  }
  socket.end();
}

async function listen(
  t: ExecutionContext,
  emulator: Emulator,
  port: number,
  serve: (socket: Socket) => void,
): Promise<Emulator> {
  const take = (socket: Socket): void => {
    emulator.keep(socket);
    serve(socket);
  };
  emulator.server = await localServer(t, take, { port, host: '127.0.0.1' });
  emulator.port = emulator.server.port;
  return emulator;
}

/** Listens; serves one connection at a time; one `recv(1024)` a request; keeps the connection. */
export function startSingleReadEmulator(t: ExecutionContext, decide: Decide = echo, port = 0): Promise<FieldEmulator> {
  const emulator = new Emulator(decide);
  let turn = Promise.resolve();
  return listen(t, emulator, port, (socket) => {
    const receiver = new Receiver(socket);
    turn = turn.then(() => serveSingleReads(emulator, socket, receiver));
  });
}

/** Listens; reads a line; closes after its reply. */
export function startReadlineEmulator(t: ExecutionContext, decide: Decide = echo, port = 0): Promise<FieldEmulator> {
  const emulator = new Emulator(decide);
  return listen(t, emulator, port, (socket) => {
    const lines = createInterface(socket).on('error', () => undefined);
    lines.once('line', (line) => {
      void emulator.answer(socket, line).then(() => socket.end());
    });
  });
}

/** Dials a port; one `recv(1024)` a request; keeps the connection, and dials again when it ends. */
export function startDialingEmulator(t: ExecutionContext, port: number, decide: Decide = echo): FieldEmulator {
  const emulator = new Emulator(decide);
  let isStopped = false;
  t.teardown(() => {
    isStopped = true;
    emulator.stop();
  });
  const dial = (): void => {
    const socket = createConnection({ host: '127.0.0.1', port, allowHalfOpen: true });
    emulator.keep(socket);
    socket.once('close', () => {
      if (!isStopped) dial();
    });
    void serveSingleReads(emulator, socket, new Receiver(socket));
  };
  dial();
  return emulator;
}
