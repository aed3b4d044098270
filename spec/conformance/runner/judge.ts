import { limitsIn, parseScript } from '../../helpers/script.js';
import type { SuiteOptions } from './options.js';
import { isOutside, play } from './play.js';
import { Program } from './program.js';
import { hasFailed, type Result } from './report.js';

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
    let outcome: Result['outcome'] = 'no conversation';
    for (const script of scripts) {
      const one = this.#refuses(script) ?? (await this.#play(script));
      if (typeof one !== 'string' || outcome === 'no conversation') outcome = one;
      if (one !== null && typeof one !== 'string') break;
    }
    const said = [...(this.#program?.said ?? [])];
    const result = { title, outcome, said, ms: performance.now() - startedAt };
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
    const isPrivate = inside === true || holds !== undefined || settings !== undefined || capacityBytes !== undefined;
    const steps = lines.flatMap((line) => line.steps);
    if (isPrivate || lines.some(({ stallMs }) => stallMs !== null) || !steps.every(isOutside)) return 'in process only';
    const missing = [...features, ...needs, ...(keyed ? ['auth'] : [])].find((feature) => without.includes(feature));
    if (missing !== undefined) return `without ${missing}`;
    if (keyed && keyWords === null) return 'no --with-key';
    const isFar = steps.some((step) => step.startsWith('open '));
    return isFar && !command.some((word) => word.includes('{far}')) ? 'no {far} in the command' : null;
  }

  async #play(script: string): Promise<Result['outcome']> {
    const { command, keyWords, timeoutMs } = this.#options;
    const { given } = parseScript(script);
    const limits = given.limits ?? {};
    const adapted = limitsIn(script);
    const words = given.keyed === true ? [...command, ...(keyWords ?? [])] : command;
    const wanted = JSON.stringify([
      words,
      words.some((word) => /\{(?:frame|streams|opens|\w+(?:Credit|Flight))\}/.test(word)) ? limits : {},
    ]);
    if (this.#started !== wanted || this.#program?.isOver !== false || !words.some((word) => word.includes('{path}'))) {
      await this.stop();
      this.#program = await Program.start(words, limits);
      this.#started = wanted;
    }
    const program = this.#program as Program;
    const isAdaptive = Object.keys(limits).every((name) => adapted.includes(name));
    return play(script, program, { timeoutMs, isAdaptive });
  }
}
