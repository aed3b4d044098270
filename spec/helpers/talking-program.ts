/** A program of the specs in processes of its own, which tells of itself with `say` (process-change.ts). */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { eventually } from './time.js';

export class TalkingProgram {
  /** What was said up to now: a word, and facts. */
  readonly said: (string | number | null)[][] = [];
  /** Resolved when no process of it is left. */
  readonly ended: Promise<void>;

  /** `name` is that of a file of this folder, without its ending. */
  constructor(t: ExecutionContext, name: string, settings: object) {
    const path = fileURLToPath(new URL(`${name}.js`, import.meta.url));
    // A group of its own, as its processes come one after the other.
    const child = spawn(process.execPath, [path, JSON.stringify(settings)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    t.teardown(() => {
      try {
        process.kill(-(child.pid ?? 0), 'SIGKILL');
      } catch {
        // All have ended.
      }
    });
    let rest = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.said.push(JSON.parse(line) as (string | number | null)[]);
    });
    this.ended = new Promise((resolve) => child.stdout.once('end', resolve));
  }

  /** The facts of the first time that a word is said. */
  heard(word: string): Promise<(string | number | null)[]> {
    const what = `"${word}" of a program`;
    return eventually(() => this.said.find(([said]) => said === word)?.slice(1), { intervalMs: 5, what });
  }

  /** All texts that it read, put together. */
  get read(): string {
    return this.said.flatMap(([word, text]) => (word === 'read' ? [String(text)] : [])).join('');
  }
}
