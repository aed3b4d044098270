/** All scenes, by the names that markers have. */
import type { Scene } from '../runner/scene.js';
import { ansible } from './ansible.js';
import { control } from './control.js';
import { debianGuest } from './debian-guest.js';
import { libvirt } from './libvirt.js';
import { PLAIN_RECIPES, VM_RECIPES } from './recipes/index.js';
import { twoHosts } from './two-hosts.js';
import { virtualMachine } from './virtual-machine.js';
import { oneVm, twoVms } from './vms.js';

/** A host with vproxy, and nothing else. */
const plain: Scene = { needs: ['curl'] };

/** Those without a VM, which `npm test` plays. */
export const PLAIN_SCENES: Readonly<Record<string, Scene>> = {
  ansible,
  control,
  'one-vm': oneVm,
  plain,
  'two-hosts': twoHosts,
  'two-vms': twoVms,
  libvirt,
  ...PLAIN_RECIPES,
};

/** Those with a VM, which `npm run test:vm` plays. */
export const VM_SCENES: Readonly<Record<string, Scene>> = {
  /** With the port `org.vproxy.0` and the host's end of it at /run/vm1.sock where the document has no QEMU. */
  guest: virtualMachine(),
  /** From nothing to ssh, commands and storage in a guest. */
  'quick-start': virtualMachine(),
  ...VM_RECIPES,
};

/** All scenes of documents. spec/vm/getting-started.spec.ts plays the last one. */
export const SCENES: Readonly<Record<string, Scene>> = {
  ...PLAIN_SCENES,
  ...VM_SCENES,
  'debian-guest': debianGuest,
};
