/** Control sockets, and the processes that answer on them. */
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding, refusedOptions } from '../findings.js';
import type { Machine } from '../machine.js';
import { type ControlSocket, formatRunning } from '../running.js';

/** The Node of the single executable and the packages. Older ones take more processor time for the same work. */
const FAST_NODE = 24;

/** Reports the vproxy that answers on one socket, or why none does. */
export function checkControlSocket({ options }: Machine, { path, running, silence }: ControlSocket): Finding[] {
  const shown = escapeText(path);
  if (running !== null) {
    const { process } = running.status;
    const version = escapeText(process.version, 80);
    const own = `vproxy ${options.version}`;
    return [
      finding(
        'vproxy-runs',
        `${formatRunning(running)} answers on ${shown}, ${version}, Node ${escapeText(process.node, 32)}`,
      ),
      ...(Number.parseInt(process.node, 10) >= FAST_NODE
        ? []
        : [finding('node-slower', `${formatRunning(running)} runs on Node ${escapeText(process.node, 32)}`)]),
      ...(process.version === own
        ? []
        : [finding('version-here', `${formatRunning(running)} is ${version}, this program is ${own}`)]),
      // Older versions do not tell it.
      ...refusedOptions(formatRunning(running), (process as Partial<typeof process>).machine?.refusedOptions),
    ];
  }
  switch (silence) {
    case 'denied':
      return [finding('control-denied', `${shown} belongs to another user`)];
    case 'silent':
      return [finding('control-silent', `no answer on ${shown} within ${options.timeoutMs} ms`)];
    default:
      return [
        finding(
          'control-stale',
          silence === 'missing' ? `${shown} does not exist` : `nothing listens on ${shown}`,
          silence === 'missing' ? 'start vproxy' : { SOCKET: shown },
        ),
      ];
  }
}

/** Findings about all of them together. */
export function checkControlFolder({ options }: Machine, sockets: readonly ControlSocket[]): Finding[] {
  const running = sockets.flatMap((socket) => socket.running ?? []);
  const names = running.flatMap(({ status }) => status.process.name ?? []);
  const twice = [...new Set(names.filter((name, index) => names.indexOf(name) !== index))];
  return [
    ...(options.controlFolder === null ? [finding('vproxy-hidden', 'XDG_RUNTIME_DIR is not set')] : []),
    ...(running.length === 0 && options.controlFolder !== null
      ? [finding('vproxy-none', `no running vproxy found in ${escapeText(options.controlFolder)}`)]
      : []),
    ...twice.map((name) => {
      const same = running.filter(({ status }) => status.process.name === name).map(({ status }) => status.process.pid);
      return finding('name-twice', `processes ${same.join(' and ')} have the same name: ${escapeText(name, 80)}`);
    }),
  ];
}
