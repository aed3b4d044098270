/** The terminal of a scene on the host: a bash that runs one block after another; its input is not a terminal. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Writable } from 'node:stream';
import { PROJECT_ROOT } from '../../helpers/files.js';
import { within } from '../../helpers/time.js';
import type { Block } from '../parse-document.js';
import { matchesTranscript, parseTranscript } from '../transcript.js';

const LOOP = join(PROJECT_ROOT, 'spec/documents/runner/shell-loop.sh');
const BLOCK_MS = 180_000;

/** The output and status of a piece of a block. */
interface PieceResult {
  readonly status: number;
  readonly output: string;
}

/** Runs the commands of a transcript with `runPiece`. One with output shown may fail. */
export async function runTranscript(
  { document, line: from, text }: Block,
  runPiece: (line: number, text: string, mayFail: boolean) => Promise<PieceResult>,
): Promise<void> {
  for (const { line, command, output: shown } of parseTranscript(text)) {
    const { status, output } = await runPiece(from + line, command, shown.length > 0);
    if (matchesTranscript(shown, output)) continue;
    const printed = `status ${status}, it printed\n${output}\nwhere the document has\n${shown.join('\n')}`;
    throw new Error(`${document}:${from + line}: ${command}\n${printed}`);
  }
}

/** A shell that keeps its variables and working folder between blocks. The caller that makes it closes it. */
export class Shell {
  readonly #folder: string;
  readonly #child: ChildProcess;
  readonly #answers: Interface;
  readonly #ended: Promise<number>;
  #count = 0;

  /** `folder` receives the texts of the blocks and their output. */
  constructor(folder: string) {
    this.#folder = folder;
    this.#child = spawn('bash', ['--noprofile', '--norc', LOOP], {
      stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'pipe'],
    });
    this.#answers = createInterface({ input: this.#child.stdio[4] as NodeJS.ReadableStream });
    // The shell may have exited, which `run` reports.
    this.#child.stdio[3]?.on('error', () => undefined);
    this.#ended = new Promise((resolve) => this.#child.once('exit', (code) => resolve(code ?? 128)));
  }

  /** Runs a block. Rejects with `document:line` and the error; the shell may have exited then. */
  async run(block: Block): Promise<void> {
    const runPiece = (line: number, text: string, mayFail: boolean) =>
      this.#runPiece(block.document, line, text, mayFail);
    if (block.language === 'console') await runTranscript(block, runPiece);
    else await runPiece(block.line, block.text, false);
  }

  /** Ends the shell. */
  close(): void {
    this.#child.kill('SIGKILL');
  }

  async #runPiece(document: string, line: number, text: string, mayFail: boolean): Promise<PieceResult> {
    this.#count += 1;
    const file = join(this.#folder, String(this.#count), mayFail ? `${document}.free` : document);
    mkdirSync(dirname(file), { recursive: true });
    // Keep the line numbers of the document.
    writeFileSync(file, `${'\n'.repeat(line - 1)}${text}\n`);
    const answer = new Promise<number>((resolve) => {
      this.#answers.once('line', (words: string) => resolve(Number(words.split(' ')[1])));
    });
    (this.#child.stdio[3] as Writable).write(`${file}\n`);
    const read = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');
    const status = await within(BLOCK_MS, text, Promise.race([answer, this.#ended])).catch((error: unknown) => {
      throw new Error(`${document}:${line}: ${(error as Error).message}\n${read(`${file}.out`)}`, { cause: error });
    });
    const output = read(`${file}.out`);
    if (status !== 0 && !mayFail) {
      // The command that failed, if it was one, and its line in the document.
      const [, at = line, command = text.split('\n')[0]] = /^(\d+)\n(.*)\n$/s.exec(read(`${file}.failed`)) ?? [];
      throw new Error(`${document}:${at}: ${command}\nended with status ${status}, and printed\n${output}`);
    }
    return { status, output };
  }
}
