/** A guest with vproxy and an ssh server, and a host with vproxy: for single commands of both. */
import type { Scene } from '../runner/scene.js';
import { virtualMachine } from './virtual-machine.js';

/** The guest is a rig's, with the port `org.vproxy.0` and the host's end of it at /run/vm1.sock. */
export const guest: Scene = virtualMachine();
