/** `npm run vm`: a VM with vproxy-guest, until it is interrupted, or while it runs a command. */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { findProgram } from '../bench/process/find-program.js';
import { cacheFolder } from './cache.js';
import { MissingError } from './missing.js';
import { HELP, parseVmOptions, type VmOptions } from './options.js';
import { prepareParts } from './parts.js';
import { EXIT_FAILED, Vm, VPROXY } from './vm.js';

const EXIT_USAGE = 64;
const EXIT_UNAVAILABLE = 69;

/** The interval between looks whether npm still runs, in milliseconds. */
const LOOK_MS = 500;

/** SIGHUP: the terminal was closed. */
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
type StopSignal = (typeof STOP_SIGNALS)[number];

/** An interrupt. It comes twice where npm and the terminal both send it. */
class Interrupted extends Error {
  readonly signal: StopSignal;

  constructor(signal: StopSignal) {
    super(signal);
    this.signal = signal;
  }
}

const stopping = new AbortController();
for (const signal of STOP_SIGNALS) process.on(signal, () => stopping.abort(new Interrupted(signal)));
// npm does not pass on SIGHUP, and SIGKILL cannot be. Without npm, its starter may go, as with `&`.
if (process.env['npm_lifecycle_event'] === 'vm') {
  const npm = process.ppid;
  const look = () => (process.ppid === npm ? undefined : stopping.abort(new Interrupted('SIGHUP')));
  setInterval(look, LOOK_MS).unref();
}
// Whoever reads the output may go; the VM and its folder must still end in order.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
process.exitCode = await main(process.argv.slice(2));

/** Resolves with the exit status. */
async function main(words: readonly string[]): Promise<number> {
  let options: VmOptions;
  try {
    options = parseVmOptions(words, process.env);
  } catch (error) {
    complain(error);
    return EXIT_USAGE;
  }
  if (options.wantsHelp) {
    process.stdout.write(HELP);
    return 0;
  }
  try {
    return await runVm(options);
  } catch (error) {
    const { reason } = stopping.signal as { reason: unknown };
    if (reason instanceof Interrupted) return options.command.length === 0 ? 0 : 128 + constants.signals[reason.signal];
    complain(error);
    return error instanceof MissingError ? EXIT_UNAVAILABLE : EXIT_FAILED;
  }
}

async function runVm({ command, kernel, isQuiet }: VmOptions): Promise<number> {
  const { signal } = stopping;
  const began = performance.now();
  const report = (text: string) => (isQuiet ? undefined : process.stderr.write(`vm: ${text}\n`));
  const interrupted = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error));
  });
  interrupted.catch(() => undefined);
  const folder = mkdtempSync(resolve(tmpdir(), 'vproxy-try-'));
  let vm: Vm | undefined;
  try {
    const parts = await prepareParts({ kernel, folder, signal, report });
    report(`booting Linux ${parts.kernel.version} ${parts.accelerator === 'kvm' ? 'with KVM' : 'without KVM'}`);
    vm = new Vm(parts, folder);
    const failed = vm.ended.then((text) => Promise.reject(new Error(text.trimEnd())));
    failed.catch(() => undefined);
    await Promise.race([vm.waitForSession(), failed, interrupted]);
    report(`up after ${((performance.now() - began) / 1000).toFixed(1)} s`);
    if (command.length > 0) return await Promise.race([vm.run(command, signal), failed, interrupted]);
    process.stdout.write(formatNextSteps(vm.controlSocket));
    return await Promise.race([failed, interrupted]);
  } finally {
    stopping.abort(new Error('the VM ends'));
    await vm?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Lines for another terminal, in any folder. */
function formatNextSteps(controlSocket: string): string {
  const onPath = findProgram('vproxy');
  const isThis = onPath !== undefined && realpathSync(onPath) === VPROXY;
  return `
In another terminal:

  export VPROXY_SOCKET=${quote(controlSocket)}
${isThis ? '' : `  vproxy() { ${quote(VPROXY)} "$@"; }\n`}\
  vproxy exec uname -a
  vproxy shell
  vproxy copy ${quote(join(PROJECT_ROOT, 'README.md'))} vm:/tmp/
  vproxy exec -d httpd -f -p 8080 -h /tmp
  vproxy ports
  vproxy web

Ctrl-C in this terminal ends the VM.
`;
}

/** A word for a shell. */
function quote(word: string): string {
  return /^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function complain(error: unknown): void {
  const text = (error instanceof Error ? error.message : String(error)).trimEnd();
  // Programs and the system seldom say where.
  const isFull = /ENOSPC|EDQUOT|no space left|quota exceeded/i.test(text);
  const remedy = isFull ? `\nmake room in ${cacheFolder()} and ${tmpdir()}, or set VPROXY_VM_CACHE and TMPDIR` : '';
  process.stderr.write(`vm: ${text}${remedy}\n`);
}
