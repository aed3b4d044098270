/** The scenes of docs/recipes.md, by the names in its markers. */

import type { Scene } from '../../runner/scene.js';
import { isUp } from '../../runner/stage.js';
import { virtualMachine } from '../virtual-machine.js';
import { egress } from './egress.js';
import { job } from './job.js';
import { journal } from './journal.js';
import { libvirt } from './libvirt.js';
import { agent, copy, ssh, sshfs } from './ssh.js';
import { syslog } from './syslog.js';

/** Scenes without a VM. */
export const PLAIN_RECIPES: Readonly<Record<string, Scene>> = {
  'recipe-agent': agent,
  'recipe-copy': copy,
  'recipe-journal': journal,
  'recipe-libvirt': libvirt,
  'recipe-ssh': ssh,
  'recipe-sshfs': sshfs,
  'recipe-syslog': syslog,
};

/** A call waits for the session, so the scene need not. */
const patient = (): Scene => ({ ...virtualMachine(), isReady: isUp });

/** Scenes with a VM. */
export const VM_RECIPES: Readonly<Record<string, Scene>> = {
  'recipe-egress': egress(),
  'recipe-job': job,
  'recipe-serial': patient(),
  'recipe-simengine': patient(),
};
