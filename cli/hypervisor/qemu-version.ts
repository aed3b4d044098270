/** QEMU's version, on which the spelling of some of its arguments depends. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';

/** A version, without what is behind its second number. */
export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
}

/** Whether `version` is at least another one. */
export const isSince = (version: QemuVersion, major: number, minor: number): boolean =>
  version.major > major || (version.major === major && version.minor >= minor);

/** The version of a text such as `7.2` or `7.2.22`. Throws `bad-argument`. */
export function parseQemuVersion(text: string): QemuVersion {
  const [, major, minor] = /^(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?$/.exec(text) ?? [];
  if (major === undefined || minor === undefined) {
    throw new VproxyError('bad-argument', `--qemu-version: "${escapeText(text, 64)}" is no version, such as 7.2`);
  }
  return { major: Number(major), minor: Number(minor) };
}

/** What Node calls a processor, and QEMU, where that differs. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'x86_64',
  arm64: 'aarch64',
  ia32: 'i386',
  ppc64: 'ppc64',
  riscv64: 'riscv64',
  loong64: 'loongarch64',
};

const ANSWER_MS = 10_000;

/** The version of this machine's QEMU, which is asked for it. Throws `bad-argument` where there is none. */
export async function askQemuVersion(): Promise<QemuVersion> {
  const own = `qemu-system-${ARCHITECTURES[process.arch] ?? process.arch}`;
  for (const program of [own, 'qemu-kvm', '/usr/libexec/qemu-kvm']) {
    const stdout = await promisify(execFile)(program, ['--version'], { timeout: ANSWER_MS }).then(
      (output) => output.stdout,
      () => '',
    );
    const found = /^QEMU emulator version (\d+\.\d+)/.exec(stdout)?.[1];
    if (found !== undefined) return parseQemuVersion(found);
  }
  throw new VproxyError(
    'bad-argument',
    `--qemu-version: it is required here: QEMU's arguments depend on it, and there is no ${own} to ask; expected such as 7.2`,
  );
}
