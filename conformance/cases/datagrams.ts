/** R-DGRAM-2, R-DGRAM-3 and R-DGRAM-6: `flow` is a service that takes flows. */
import type { Conversations } from '../script.js';
import { json } from './json.js';

const open = (datagram: unknown, service = 'flow'): string => `OPEN 1 ${json({ service, datagram })}`;

/** An open flow. */
const FLOW = `given features=datagram; ${open(true)} -> ACCEPT 1`;

export const DATAGRAMS: Conversations = {
  'R-DGRAM-2: only the field of OPEN makes a flow': [false, null, undefined].map(
    (datagram) => `given features=datagram; ${open(datagram, 'target')} -> ACCEPT 1; DATA 1 hex:ffff -> nothing`,
  ),
  'R-DGRAM-2: a field that is not a boolean is a protocol error': [1, 'true', {}].map(
    (datagram) => `given features=datagram; ${open(datagram)} -> ends protocol-error`,
  ),
  'R-DGRAM-2: in a session without flows an OPEN of one is a protocol error': `given needs=datagram; ${open(true)} -> ends protocol-error`,
  'R-DGRAM-3: messages of 0 to 65,507 bytes pass, however DATA is cut': `
    ${FLOW}
    DATA 1 hex:0000, DATA 1 hex:00, DATA 1 hex:0361, DATA 1 hex:62630001, DATA 1 hex:78ffe3, DATA 1 30000, DATA 1 35507 -> ...
    FIN 1 -> FIN 1`,
  'R-DGRAM-3: an invalid length, or the end within a message, resets the flow and nothing else': [
    `${FLOW}; DATA 1 hex:ffe4 -> RESET 1 protocol-error; DATA 1 hex:00046c617465 -> nothing`,
    `${FLOW}; DATA 1 hex:ffff, DATA 1 60000 -> RESET 1 protocol-error`,
    ...['00', '0005', '00056869'].map((bytes) => `${FLOW}; DATA 1 hex:${bytes}, FIN 1 -> RESET 1 protocol-error`),
  ],
  'R-DGRAM-6: FIN ends the flow both ways at once': `${FLOW}; FIN 1 -> FIN 1; STOP 1 -> nothing`,
  'R-DGRAM-6: STOP is answered with RESET': `${FLOW}; STOP 1 -> RESET 1 denied`,
  'R-DGRAM-6: RESET ends it': `${FLOW}; RESET 1 -> nothing`,
};
