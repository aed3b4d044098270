/** The XML of a small libvirt domain. */

/** What is in one. */
export interface DomainParts {
  readonly name?: string;
  /** Elements of `<devices>`. Default none. */
  readonly devices?: string;
  /** What it boots. Default: nothing, and its firmware looks for something in vain. */
  readonly boot?: DomainBoot;
  /** Elements at the end of `<domain>`. Default none. */
  readonly end?: string;
}

/** A kernel with its first file system, by their paths. */
export interface DomainBoot {
  readonly kernel: string;
  readonly initrd: string;
  readonly commandLine: string;
}

/** A domain with no disk, of which QEMU emulates everything; it runs until it is destroyed. */
export function formatDomain({ name = 'vm1', devices = '', boot, end = '' }: DomainParts): string {
  const linux =
    boot && `<kernel>${boot.kernel}</kernel><initrd>${boot.initrd}</initrd><cmdline>${boot.commandLine}</cmdline>`;
  return `<domain type='qemu'>
  <name>${name}</name>
  <memory unit='MiB'>${boot === undefined ? 16 : 1024}</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>${linux ?? ''}</os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
${devices}  </devices>
${end}</domain>
`;
}
