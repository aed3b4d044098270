/** The QEMU of a guest: its program, and the machine that it emulates. */

/** The program for each processor, and the Debian package that contains it. */
export const QEMU: Readonly<Partial<Record<NodeJS.Architecture, { program: string; debianPackage: string }>>> = {
  x64: { program: 'qemu-system-x86_64', debianPackage: 'qemu-system-x86' },
  arm64: { program: 'qemu-system-aarch64', debianPackage: 'qemu-system-arm' },
};

/** The arguments for the machine, whose console is its first serial line, and for its kernel's command line, which `append` extends. */
export function machineArguments(arch: NodeJS.Architecture, append: string): string[] {
  const [machine, console] = arch === 'arm64' ? ['virt,gic-version=max', 'ttyAMA0'] : ['q35', 'ttyS0'];
  return [
    ...['-cpu', 'max', '-M', machine, '-nodefaults', '-display', 'none', '-monitor', 'none'],
    ...['-append', `console=${console} ${append}`],
  ];
}

/** The options of a guest's kernel: fewer messages, no wait after a panic, and no work that emulation makes slow. */
export const BOOT_OPTIONS = 'quiet panic=-1 mitigations=off no_timer_check';
