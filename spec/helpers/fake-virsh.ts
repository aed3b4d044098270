/** A virsh of a test's own: a script in a folder, which says of one domain what the test wants. */
import { chmodSync, renameSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import type { DialContext } from '../../lib/channel/kind.js';
import { libvirtKind } from '../../lib/channel/libvirt.js';
import type { Link } from '../../lib/link/link.js';
import type { Clock } from '../../lib/util/clock.js';
import { patiently } from './channel-pair.js';
import { temporaryFolder } from './temp-folder.js';

export interface FakeVirsh {
  readonly path: string;
  /** The environment in which it is the virsh of the path. */
  readonly env: Readonly<Record<string, string>>;
  /** The script that it is from now on. */
  become(script: string): void;
  /** What it prints from now on. */
  print(xml: string): void;
  /** The words of each call so far, one call a line, behind its LC_ALL. */
  calls(): Promise<string[]>;
}

/** One that fails until it is told what to do. */
export function fakeVirsh(t: ExecutionContext): FakeVirsh {
  const folder = temporaryFolder(t);
  const [path, log, answer] = [join(folder, 'virsh'), join(folder, 'calls'), join(folder, 'answer.xml')];
  const become = (script: string) => {
    // A file that is being run cannot be written to.
    const next = join(folder, 'next');
    writeFileSync(next, `#!/bin/sh\necho "$LC_ALL $*" >> '${log}'\n${script}\n`);
    chmodSync(next, 0o755);
    renameSync(next, path);
  };
  become('exit 1');
  return {
    path,
    env: { PATH: `${folder}${delimiter}${process.env['PATH'] ?? ''}` },
    become,
    print(xml) {
      writeFileSync(answer, xml);
      become(`cat '${answer}'`);
    },
    async calls() {
      const text = await readFile(log, 'utf8').catch(() => '');
      return text.split('\n').slice(0, -1);
    },
  };
}

/** The XML of a domain that runs, with these in its `<devices>`. */
export function domainXml(...devices: readonly string[]): string {
  return `<domain type='kvm' id='3'>\n  <name>vm1</name>\n  <devices>${devices.join('\n')}</devices>\n</domain>\n`;
}

/** A virtio channel: its type, what stands inside of it, and its name. */
export function channelXml(type: string, source: string, name = 'org.vproxy.0'): string {
  return `<channel type='${type}'>${source}<target type='virtio' name='${name}'/></channel>`;
}

/** What is said of dialling. */
export interface DialSetup extends Partial<DialContext> {
  readonly clock?: Clock;
}

/** Dials what a text means, with a virsh of the test's own; the link goes with the test. */
export async function dialWith(
  t: ExecutionContext,
  virsh: FakeVirsh | string,
  text: string,
  setup: DialSetup = {},
): Promise<Link> {
  const { clock, ...context } = setup;
  const program = typeof virsh === 'string' ? virsh : virsh.path;
  const kind = libvirtKind({ virsh: program, ...(clock && { clock }) });
  const { address } = parseChannel(text);
  const link = await kind.dial(address as Parameters<typeof kind.dial>[0], { ...patiently(), ...context });
  t.teardown(() => link.destroy());
  return link;
}
