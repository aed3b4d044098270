/** Actions of a scene in its namespaces before, between and after the blocks. */
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { ESTABLISHED, TAKING_CONTROL } from '../../helpers/vproxy-process.js';
import type { ReadyCheck } from './scene.js';
import { type Staying, startStaying } from './staying.js';

/** The machine of a scene. */
export class Stage {
  /** The home folder, the initial folder of every shell. */
  readonly home = process.cwd();
  readonly #staying: Staying[] = [];

  /** Writes a file, and creates its parent folders. A relative path starts at home. Default mode: 0644. */
  write(path: string, text: string, mode = 0o644): void {
    const file = resolve(this.home, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text, { mode });
  }

  /** Runs a line of bash to its end, and returns its stdout. Rejects on failure. */
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

  /** Starts `vproxy` with these arguments and no control socket, such as the peer of the document's. */
  startPeer(args: string, isReady: ReadyCheck): Promise<Staying> {
    return this.start(`exec vproxy --no-control ${args}`, isReady);
  }

  /** Registers a program to be stopped at the end of the scene. */
  keep(staying: Staying): Staying {
    this.#staying.push(staying);
    return staying;
  }

  /** Stops a registered program before the end of the scene. */
  async drop(staying: Staying): Promise<void> {
    const at = this.#staying.indexOf(staying);
    if (at !== -1) this.#staying.splice(at, 1);
    await staying.stop();
  }

  /** The output of every staying program, for an error. */
  logs(): string {
    return this.#staying.map(({ output }) => output).join('\n');
  }

  /** Stops the staying programs, last one first. */
  async close(): Promise<void> {
    for (const staying of this.#staying.splice(0).reverse()) await staying.stop();
  }
}

/** Whether a vproxy takes control requests, that is, all its listeners are up; or an emulator listens or is connected. */
export const isUp: ReadyCheck = (output) =>
  TAKING_CONTROL.test(output) || /^storage emulator (?:listening on|connected to) /m.test(output);

/** Whether it also has a session. */
export const hasSession: ReadyCheck = (output) => isUp(output) && ESTABLISHED.test(output);
