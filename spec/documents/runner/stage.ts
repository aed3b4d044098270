/** What a scene can do in its namespaces before, between and after the blocks. */
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { TAKING_CONTROL } from '../../helpers/vproxy-process.js';
import type { ReadyCheck } from './scene.js';
import { type Staying, startStaying } from './staying.js';

/** A scene's own machine. */
export class Stage {
  /** The home folder, in which every shell begins. */
  readonly home = process.cwd();
  readonly #staying: Staying[] = [];

  /** Writes a file, and makes the folders above it. A relative path begins at home. Default mode: 0644. */
  write(path: string, text: string, mode = 0o644): void {
    const file = resolve(this.home, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text, { mode });
  }

  /** Runs a line of bash to its end, and gives what it printed on stdout. Rejects where it fails. */
  run(command: string): Promise<string> {
    return new Promise((resolve, reject) => {
      execFile('bash', ['-euc', command], { cwd: this.home }, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${command}\n${stdout}${stderr}`, { cause: error }));
      });
    });
  }

  /** Whether a line of bash succeeds. */
  succeeds(command: string): Promise<boolean> {
    return this.run(command).then(
      () => true,
      () => false,
    );
  }

  /** Starts a line of bash that runs until the end of the scene; resolves when it is ready. */
  async start(command: string, isReady: ReadyCheck): Promise<Staying> {
    return this.keep(await startStaying(['bash', '-euc', command], { isReady, what: command, cwd: this.home }));
  }

  /** Starts `vproxy` with these arguments, such as the peer of the one that the document shows, and no control socket. */
  startPeer(args: string, isReady: ReadyCheck): Promise<Staying> {
    return this.start(`exec vproxy --no-control ${args}`, isReady);
  }

  /** Has something stopped at the end of the scene. */
  keep(staying: Staying): Staying {
    this.#staying.push(staying);
    return staying;
  }

  /** Stops one of those, before the end of the scene. */
  async drop(staying: Staying): Promise<void> {
    const at = this.#staying.indexOf(staying);
    if (at !== -1) this.#staying.splice(at, 1);
    await staying.stop();
  }

  /** What every program that stays has printed, for an error. */
  logs(): string {
    return this.#staying.map(({ output }) => output).join('\n');
  }

  /** Stops the programs that stay, the last one first. */
  async close(): Promise<void> {
    for (const staying of this.#staying.splice(0).reverse()) await staying.stop();
  }
}

/** A vproxy takes control requests, which it does when everything listens that has to; an emulator is connected, or listens. */
export const isUp: ReadyCheck = (output) =>
  TAKING_CONTROL.test(output) || /^storage emulator (?:listening on|connected to) /m.test(output);
