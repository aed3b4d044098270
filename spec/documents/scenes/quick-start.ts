/** From nothing to ssh, commands and storage in a guest: README.md and docs/getting-started.md. */
import type { Scene } from '../runner/scene.js';
import { virtualMachine } from './virtual-machine.js';

/** A guest that has vproxy and an ssh server, and a host that has vproxy. */
export const quickStart: Scene = virtualMachine();
