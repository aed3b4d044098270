/** Programs that use unix datagram sockets in the specs: Python processes, as Node has no such sockets. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { ExecutionContext } from 'ava';
import { eventually } from './time.js';

export interface UnixgramMessage {
  readonly bytes: Buffer;
  /** The sender's path; empty if it has none, and an abstract name with a leading `@`. */
  readonly from: string;
}

interface UnixgramOptions {
  /** Its address, such as a path; an abstract name with a leading `@`. Default: none. */
  readonly at?: string;
  readonly isEcho?: boolean;
  /** Whether it reads from the start. Default true. */
  readonly isReading?: boolean;
  readonly cwd?: string | undefined;
}

const SCRIPT = `
import base64, json, os, select, socket, sys

def tell(**what): print(json.dumps(what), flush=True)
def address(text): return '\\0' + text[1:] if text.startswith('@') else text
def name(address): return '@' + address[1:].decode() if isinstance(address, bytes) else address or ''

at, is_echo, is_reading = json.loads(sys.argv[1])
own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if at != '': own.bind(address(at))
tell(ready=True)
rest = b''
while True:
    ready, _, _ = select.select([0] + ([own] if is_reading else []), [], [])
    if own in ready:
        message, sender = own.recvfrom(1 << 20)
        if is_echo and sender: own.sendto(message, sender)
        tell(sender=name(sender), bytes=base64.b64encode(message).decode())
    if 0 in ready:
        piece = os.read(0, 1 << 20)
        if piece == b'': break
        *lines, rest = (rest + piece).split(b'\\n')
        for line in lines:
            order = json.loads(line)
            if 'read' in order: is_reading = True
            if 'to' not in order: continue
            message = base64.b64decode(order['bytes'])
            try:
                for _ in range(order['count']): own.sendto(message, address(order['to']))
                tell(done=True)
            except OSError as error:
                tell(done=True, error=error.strerror)
`;

export class UnixgramProgram {
  readonly messages: UnixgramMessage[] = [];
  /** The system's response to each send order; an empty text: success. */
  readonly #answers: string[] = [];
  #isReady = false;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #exited: Promise<unknown>;

  private constructor({ at = '', isEcho = false, isReading = true, cwd }: UnixgramOptions) {
    const words = ['-ISc', SCRIPT, JSON.stringify([at, isEcho, isReading])];
    this.#child = spawn('python3', words, { stdio: ['pipe', 'pipe', 'inherit'], cwd });
    this.#exited = once(this.#child, 'exit');
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const told = JSON.parse(line) as { ready?: true; done?: true; error?: string; sender?: string; bytes?: string };
      if (told.ready === true) this.#isReady = true;
      else if (told.done === true) this.#answers.push(told.error ?? '');
      else this.messages.push({ bytes: Buffer.from(told.bytes ?? '', 'base64'), from: told.sender ?? '' });
    });
  }

  static async open(t: Pick<ExecutionContext, 'teardown'>, options: UnixgramOptions = {}): Promise<UnixgramProgram> {
    const program = new UnixgramProgram(options);
    t.teardown(() => program.close());
    await eventually(() => program.#isReady, { what: 'a program in Python', intervalMs: 5 });
    return program;
  }

  get texts(): string[] {
    return this.messages.map(({ bytes }) => bytes.toString());
  }

  /** Sends a message, or several of the kind, and returns the system's response: an empty text if it took all. */
  async send(bytes: Buffer | string, to: string, count = 1): Promise<string> {
    const index = this.#answers.length;
    this.#order({ to, bytes: Buffer.from(bytes).toString('base64'), count });
    const isTaken = () => this.#answers.length > index;
    await eventually(isTaken, { what: `a message to ${to} taken by the system`, intervalMs: 2 });
    return this.#answers[index] ?? '';
  }

  read(): void {
    this.#order({ read: true });
  }

  async came(count: number): Promise<readonly UnixgramMessage[]> {
    await eventually(() => this.messages.length >= count, { what: `message ${count}`, intervalMs: 2 });
    return this.messages;
  }

  /** Ends it; the file of its socket stays. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  #order(order: object): void {
    this.#child.stdin.write(`${JSON.stringify(order)}\n`);
  }
}
