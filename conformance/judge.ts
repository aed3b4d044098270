import type { SuiteOptions } from './options.js';
import { isOutside, play } from './play.js';
import { Program } from './program.js';
import { hasFailed, type Result } from './report.js';
import { parseScript } from './script.js';

/** Runs cases one after another, with one program for several if it listens. */
export class Judge {
  readonly #options: SuiteOptions;
  #program: Program | null = null;
  /** The command of the running program, and the limits that it was started with. */
  #started = '';

  constructor(options: SuiteOptions) {
    this.#options = options;
  }

  /** A case fails with the first of its conversations that does, and is skipped if all of them are. */
  async run(title: string, scripts: readonly string[]): Promise<Result> {
    const startedAt = performance.now();
    const outcomes: Result['outcome'][] = [];
    for (const script of scripts) {
      outcomes.push(this.#refuses(script) ?? (await this.#play(script)));
      if (outcomes.at(-1) instanceof Error) break;
    }
    const outcome =
      outcomes.find((one) => one instanceof Error) ?? (outcomes.includes(null) ? null : (outcomes[0] ?? null));
    const result = { title, outcome, said: this.#program?.said.slice() ?? [], ms: performance.now() - startedAt };
    if (hasFailed(result)) await this.stop();
    return result;
  }

  async stop(): Promise<void> {
    const program = this.#program;
    this.#program = null;
    await program?.stop();
  }

  /** Why the program is not asked at all; null if it is. */
  #refuses(script: string): string | null {
    const { command, keyWords, without } = this.#options;
    const { given, lines } = parseScript(script);
    const { inside, holds, settings, capacityBytes, keyed = false, features = [], needs = [] } = given;
    const isPrivate = [inside, holds, settings, capacityBytes].some((value) => value !== undefined);
    const steps = lines.flatMap((line) => line.steps);
    const counts = lines.some(({ stallMs }) => stallMs !== null);
    if (isPrivate || counts || !steps.every(isOutside)) return 'in process only';
    const missing = [...features, ...needs, ...(keyed ? ['auth'] : [])].find((feature) => without.includes(feature));
    if (missing !== undefined) return `without ${missing}`;
    if (keyed && keyWords === null) return 'no --with-key';
    const isFar = steps.some((step) => step.startsWith('open '));
    return isFar && !command.join().includes('{far}') ? 'no {far} in the command' : null;
  }

  async #play(script: string): Promise<Result['outcome']> {
    const { command, keyWords, timeoutMs } = this.#options;
    const { limits = {}, keyed = false } = parseScript(script).given;
    const words = keyed ? [...command, ...(keyWords ?? [])] : command;
    const wanted = JSON.stringify([
      words,
      Object.entries(limits).filter(([name]) => words.join().includes(`{${name}}`)),
    ]);
    let program = this.#program;
    if (program === null || program.isOver || this.#started !== wanted || !words.join().includes('{path}')) {
      await this.stop();
      program = this.#program = await Program.start(words, limits);
      this.#started = wanted;
    }
    return play(script, program, timeoutMs);
  }
}
