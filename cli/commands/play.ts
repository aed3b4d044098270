/** `vproxy play`: plays a terminal recording at its original pace. */
import { createReadStream } from 'node:fs';
import { constants } from 'node:os';
import { isatty } from 'node:tty';
import { toVproxyError, VproxyError } from '../../lib/errors.js';
import type { TerminalSize } from '../../lib/services/exec/exec-messages.js';
import {
  CAST_CODE,
  type CastEvent,
  type CastHeader,
  parseCastEvent,
  parseCastHeader,
} from '../../lib/services/exec/recording/asciicast.js';
import { MAX_TIMER_MS, sleep, systemClock } from '../../lib/util/clock.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { type Arguments, badArgument } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { obeysEscapes } from '../ui/color.js';
import { LocalTerminal, TerminalModes } from '../ui/local-terminal.js';
import { print } from '../ui/print.js';

const MAX_SECONDS = 1e6;

export const command: Command = {
  usage: 'play FILE [--speed N] [--idle-limit SECONDS] [--raw]',
  about:
    'Plays a terminal recording (asciicast v2) in this terminal at its original pace; Ctrl-C ends it. The terminal obeys every escape sequence in the file: only play recordings that you trust.',
  examples: [
    ['vproxy play vm1.cast', 'At the original pace'],
    ['vproxy play --speed 4 --idle-limit 1s vm1.cast', 'Faster, and without long pauses'],
  ],
  options: {
    speed: { short: 's', value: 'N', describe: 'Play it N times as fast [default: 1]' },
    'idle-limit': { short: 'i', value: 'SECONDS', describe: 'Limit every pause to this long' },
    raw: { describe: 'Write all output at once, for a pipe or a file' },
  },
  isLocal: true,
  operands: ['FILE'],
  run: play,
};

async function play(args: Arguments): Promise<number> {
  const [path = ''] = args.operands;
  const speed = args.number('speed', 0.01, 1000) ?? 1;
  const idleLimitS = args.seconds('idle-limit', 0, MAX_SECONDS) ?? MAX_SECONDS;
  if (args.has('raw')) return writeAll(path);
  if (!isatty(1)) throw badArgument('play: standard output is not a terminal; --raw writes all output at once');
  return new Player(speed, idleLimitS).play(path);
}

async function writeAll(path: string): Promise<number> {
  for await (const { event } of readRecording(path)) {
    if (event?.code === CAST_CODE.OUTPUT) print(event.data);
  }
  return 0;
}

const CTRL_C = 0x03;

/** Handled: their default would end the process before the terminal is restored. */
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;

class Player {
  readonly #speed: number;
  readonly #idleLimitS: number;
  readonly #terminal = new LocalTerminal();
  readonly #modes = new TerminalModes();
  readonly #stopping = new AbortController();
  #isStarted = false;
  #status = 0;

  constructor(speed: number, idleLimitS: number) {
    this.#speed = speed;
    this.#idleLimitS = idleLimitS;
  }

  /** Resolves with the exit status; always restores the terminal. */
  async play(path: string): Promise<number> {
    let last: CastEvent | null = null;
    try {
      for await (const { header, event } of this.#paced(readRecording(path))) {
        if (header !== null) this.#start(header.size);
        last = event;
        if (event?.code === CAST_CODE.OUTPUT) await this.#show(event.data);
        if (this.#stopping.signal.aborted) break;
      }
    } finally {
      this.#stop();
    }
    if (last?.code === CAST_CODE.MARKER) process.stderr.write(`vproxy: ${escapeText(last.data)}\n`);
    return this.#status;
  }

  /** Yields each event when it is due. */
  async *#paced(parts: AsyncIterable<Part>): AsyncGenerator<Part> {
    const startedAtMs = systemClock.now();
    let dueMs = 0;
    let beforeS = 0;
    for await (const part of parts) {
      if (part.event !== null) {
        const pauseS = Math.min(Math.max(part.event.timeS - beforeS, 0), this.#idleLimitS);
        beforeS = part.event.timeS;
        dueMs += (pauseS / this.#speed) * 1000;
        const leftMs = startedAtMs + dueMs - systemClock.now();
        if (leftMs > 0) await sleep(systemClock, Math.min(leftMs, MAX_TIMER_MS), this.#stopping.signal);
        if (this.#stopping.signal.aborted) return;
      }
      yield part;
    }
  }

  #start({ columns, rows }: TerminalSize): void {
    this.#isStarted = true;
    const here = this.#terminal.size;
    if (here.columns < columns || here.rows < rows) {
      process.stderr.write(`vproxy: recorded at ${columns}x${rows}; this terminal is ${here.columns}x${here.rows}\n`);
    }
    for (const signal of SIGNALS) process.once(signal, () => this.#end(128 + constants.signals[signal]));
    // Keep the terminal's answers to the recording, and typed keys, from reaching the shell afterwards.
    if (!LocalTerminal.isThere()) return;
    this.#terminal.start();
    process.stdin.on('data', (keys: Buffer) => {
      if (keys.includes(CTRL_C)) this.#end(128 + constants.signals.SIGINT);
    });
  }

  #end(status: number): void {
    this.#status = status;
    this.#stopping.abort();
  }

  #show(text: string): Promise<void> {
    this.#modes.follow(text);
    return new Promise((resolve) => process.stdout.write(text, () => resolve()));
  }

  #stop(): void {
    if (!this.#isStarted) return;
    const restoring = obeysEscapes(process.stdout) ? this.#modes.restoring() : '';
    process.stdout.write(`${restoring}\r\n`);
    this.#terminal.stop();
    process.stdin.pause();
  }
}

/** A line of a recording: the header (the first line), or an event. */
interface Part {
  readonly header: CastHeader | null;
  readonly event: CastEvent | null;
}

/** Reads a recording line by line. Throws `bad-file`, with the file and the line. */
async function* readRecording(path: string): AsyncGenerator<Part> {
  let number = 0;
  try {
    for await (const line of readLines(path)) {
      number += 1;
      if (number === 1) yield { header: parseCastHeader(line), event: null };
      else if (line.trim() !== '') yield { header: null, event: parseCastEvent(line) };
    }
    if (number === 0) throw new VproxyError('bad-file', 'empty file');
  } catch (cause) {
    const where = number === 0 ? escapeText(path) : `${escapeText(path)}:${number}`;
    const why = cause instanceof VproxyError ? cause.message : describeError(cause);
    throw new VproxyError('bad-file', `${where}: ${why}`, { cause: toVproxyError(cause) });
  }
}

/** The longest line, in characters: vproxy itself writes less than half a million. */
const MAX_LINE_LENGTH = 16_777_216;

async function* readLines(path: string): AsyncGenerator<string> {
  let pieces: string[] = [];
  let length = 0;
  for await (const chunk of createReadStream(path, 'utf8') as AsyncIterable<string>) {
    const [end = '', ...lines] = chunk.split('\n');
    pieces.push(end);
    length += end.length;
    // A line this long is cut off and so not valid; stop there.
    if (length > MAX_LINE_LENGTH) break;
    const begun = lines.pop();
    if (begun === undefined) continue;
    yield pieces.join('');
    yield* lines;
    pieces = [begun];
    length = begun.length;
  }
  if (length > 0) yield pieces.join('');
}
