/** Findings about addresses that vproxy listens on: channels that listen, `-o`, metrics, the control socket. */
import { type FindingRows, fail, note, ok } from './row.js';

/** By id. */
export const LISTENER_FINDINGS = {
  'listen-free': ok('The address is free.'),
  'listen-stale': note('A socket is there on which nobody answers; vproxy replaces it.'),
  'listen-taken': fail('Another process listens there.', 'end that process, or choose another address'),
  'listen-file': fail(
    'A file that is no socket is at the path; vproxy does not replace it.',
    'remove the file, or choose another path',
  ),
  'listen-address': fail('The address is none of this machine.', 'choose an address of this machine, or 127.0.0.1'),
  'listen-low-port': fail(
    'Ports below the limit are for root.',
    'choose a higher port, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE',
  ),
  'held-by-vproxy': ok('A vproxy that runs has it.'),
} as const satisfies FindingRows;
