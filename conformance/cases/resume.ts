/** R-RESUME-1 to R-RESUME-5, on a channel that stays open. */
import type { Conversations } from '../script.js';

/** The peer reopens the channel, and names the session. */
const AGAIN = `
    BYTES 00*131088, wait 200 -> attempt
    renew, HELLO {"features":["resume","resume:$session"]} -> hello, RESUME 0`;

export const RESUME: Conversations = {
  'R-RESUME-1: SECRET is the first frame of a resumable session':
    'given features=resume, opening=true; HELLO -> hello, SECRET 0, established',
  'R-RESUME-1, R-RESUME-2: a SECRET or an ACK of another length, a second SECRET, and an ACK of too much are protocol errors':
    [
      ...['SECRET 0 31', 'SECRET 0 33', 'SECRET, SECRET', 'SECRET, ACK 0 18446744073709551615'],
      ...[7, 9].map((bytes) => `SECRET, ACK 0 hex:${'00'.repeat(bytes)}`),
    ].map((frames) => `given features=resume; ${frames} -> ends protocol-error`),
  'R-RESUME-2: ACK comes 200 ms after the first byte that it covers':
    'given features=resume; SECRET, wait 300 -> ACK 0',
  'R-RESUME-3, R-RESUME-5: a session outlives an error of its channel, without a lost or repeated byte': `
    given features=resume
    SECRET, OPEN 1, DATA 1 hello -> ACCEPT 1
    DATA 1 1000 !cut=500 -> nothing${AGAIN}
    resume, send 1 answer -> DATA 1 6
    1 is told data, data`,
  'R-RESUME-4: a RESUME with a wrong proof ends nothing but the opening': `
    given features=resume
    SECRET, OPEN 1 -> ACCEPT 1${AGAIN}
    RESUME 0 hex:${'00'.repeat(40)}, wait 300 -> attempt, ends auth-failed
    renew, HELLO {"features":["resume","resume:$session"]} -> hello, RESUME 0
    resume, DATA 1 hello -> nothing
    1 is told data`,
};
