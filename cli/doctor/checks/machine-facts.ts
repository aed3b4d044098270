/** What vproxy runs on, and how much the doctor can see there. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Finding, finding } from '../finding.js';
import { kernelOf, type Machine } from '../machine.js';

/** The oldest version of Node with which vproxy is tested; package.json says the same. */
const OLDEST_NODE = [20, 19] as const;

/** Kernel, Node, user. */
export function checkMachine({ options }: Machine): Finding[] {
  const { nodeVersion, userId, version, proc } = options;
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
  const isOld = major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1]);
  const facts = `vproxy ${version}, Node ${nodeVersion}, ${kernelOf()}, looked at as ${userId === 0 ? 'root' : `user ${userId}`}`;
  return [
    finding('machine-facts', facts),
    ...(isOld ? [finding('node-old', `Node ${nodeVersion} is older than ${OLDEST_NODE.join('.')}`)] : []),
    ...(existsSync(join(proc, 'self')) ? [] : [finding('proc-missing', `there is no ${proc}/self`)]),
    ...(userId === 0
      ? []
      : [finding('not-root', 'who has what open is seen only where it is this user’s own process')]),
  ];
}
