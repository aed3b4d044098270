/** All scenes, by the names that markers have. */
import type { Scene } from '../runner/scene.js';
import { ansible } from './ansible.js';
import { control } from './control.js';
import { debianGuest } from './debian-guest.js';
import { libvirt } from './libvirt.js';
import { configureSsh } from './parts.js';
import { python, pythonStorage } from './python.js';
import { PLAIN_RECIPES, VM_RECIPES } from './recipes/index.js';
import { twoHosts } from './two-hosts.js';
import { virtualMachine } from './virtual-machine.js';
import { oneVm, twoVms } from './vms.js';

/** A host with vproxy, and nothing else. */
const plain: Scene = { needs: ['curl'] };

/** Scenes without a VM, played by `npm test`. */
export const PLAIN_SCENES: Readonly<Record<string, Scene>> = {
  ansible,
  control,
  'one-vm': oneVm,
  plain,
  python,
  'two-hosts': twoHosts,
  'two-vms': twoVms,
  libvirt,
  ...PLAIN_RECIPES,
};

/** Scenes with a VM, played by `npm run test:vm`. */
export const VM_SCENES: Readonly<Record<string, Scene>> = {
  /** With the port `org.vproxy.0`, and its host's end at /run/vm1.sock, unless the document has a QEMU command line. */
  guest: virtualMachine(),
  'python-storage': pythonStorage,
  /** From nothing to ssh, commands and storage in a guest. */
  'quick-start': virtualMachine({ prepare: configureSsh }),
  ...VM_RECIPES,
};

/** All scenes of documents. spec/vm/getting-started.spec.ts plays the last one. */
export const SCENES: Readonly<Record<string, Scene>> = {
  ...PLAIN_SCENES,
  ...VM_SCENES,
  'debian-guest': debianGuest,
};
