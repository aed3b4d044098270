/** Plays a scene of a document in namespaces of its own: mounts, network and processes. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { cacheFolder } from '../../../tools/vm/cache.js';
import { PROJECT_ROOT } from '../../helpers/files.js';
import { unshareWords } from '../../helpers/namespaces.js';

/** The descriptor on which the program in the namespaces reports errors. */
export const REPORT_FD = 3;

const STAGE = join(PROJECT_ROOT, 'spec/documents/runner/stage.sh');
const INSIDE = join(PROJECT_ROOT, 'dist/spec/documents/runner/inside.js');
const NAMESPACES = ['--mount', '--net', '--pid', '--fork', '--mount-proc', '--kill-child'];

/**
 * Plays one scene of a document: all of its blocks, in order. `documentText` replaces the document's own text. Rejects
 * with `document:line`, the command, its status and its output, for the first that fails, or after `timeoutMs`.
 */
export async function play(document: string, scene: string, timeoutMs: number, documentText?: string): Promise<void> {
  const mountPoint = mkdtempSync(join(tmpdir(), `vproxy-scene-${process.pid}-`));
  const words = [document, scene, ...(documentText === undefined ? [] : [documentText])];
  const command = [process.execPath, '--enable-source-maps', INSIDE, ...words];
  const [program = '', ...args] = stageWords(mountPoint, command);
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    env: cleanEnvironment(),
  });
  const killNow = () => child.kill('SIGKILL');
  process.once('exit', killNow);
  const timer = setTimeout(killNow, timeoutMs);
  try {
    const [report, stdout, stderr, status] = await Promise.all([
      text(child.stdio[REPORT_FD] as Readable),
      text(child.stdout),
      text(child.stderr),
      new Promise<number | null>((resolve) => child.once('exit', resolve)),
    ]);
    if (status !== 0) {
      const late = status === null ? `the scene took longer than ${timeoutMs} ms, or was killed\n` : '';
      throw new Error(`${late}${report}\n${stdout}${stderr}`.trim());
    }
  } finally {
    clearTimeout(timer);
    process.off('exit', killNow);
    rmSync(mountPoint, { recursive: true, force: true });
  }
}

/** The words that run a command in its own namespaces, with its writes in `mountPoint`, an empty folder. */
export function stageWords(mountPoint: string, command: readonly string[]): string[] {
  const node = dirname(dirname(process.execPath));
  return [...unshareWords(NAMESPACES), 'bash', STAGE, mountPoint, PROJECT_ROOT, node, ...command];
}

/** The variables of this process that a user's shell would also have, and those for making guests. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const { PATH, LANG, VPROXY_VM_ACCEL } = process.env;
  const forGuests = { VPROXY_VM_CACHE: cacheFolder(), ...(VPROXY_VM_ACCEL === undefined ? {} : { VPROXY_VM_ACCEL }) };
  return { PATH, LANG: LANG ?? 'C.UTF-8', ...forGuests };
}
