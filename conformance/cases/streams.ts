/** R-STREAM-1 to R-STREAM-11, and R-CODE-3. */
import type { Conversations } from '../script.js';
import { json } from './json.js';

/** All frames of an existing stream. */
const ALL = ['ACCEPT', 'REFUSE', 'DATA', 'CREDIT', 'FIN', 'STOP', 'RESET'];

const WRONG = 'ends protocol-error';

/** Texts that are not names of services. */
const NAMES = ['', 'Echo', '-a', 'a b', 'x'.repeat(65), '../etc', 'ä', '\u001b[31m'];

export const STREAMS: Conversations = {
  'R-STREAM-1: an OPEN of the wrong parity is a protocol error': [
    `OPEN 2 -> ${WRONG}`,
    `given isOdd=false; OPEN 1 -> ${WRONG}`,
  ],
  'R-STREAM-1: ids rise, and need not be consecutive': [
    'OPEN 1, OPEN 5, OPEN 4000000001 -> ACCEPT 1, ACCEPT 5, ACCEPT 4000000001',
    `OPEN 5, OPEN 5 -> ${WRONG}`,
    `OPEN 5, OPEN 3 -> ${WRONG}`,
    `OPEN 1, RESET 1, OPEN 1 -> ${WRONG}`,
  ],
  'R-STREAM-2: only the side that was asked answers, and once': ['ACCEPT', 'REFUSE'].flatMap((answer) => [
    `given holds=true; OPEN 1, ${answer} 1 -> ${WRONG}`,
    `open far, ACCEPT 2, ${answer} 2 -> ${WRONG}`,
  ]),
  'R-STREAM-2: DATA and FIN by the side that was asked follow its ACCEPT': [
    `open far, DATA 2 early -> ${WRONG}`,
    `open far, FIN 2 -> ${WRONG}`,
  ],
  'R-STREAM-2: CREDIT and STOP may come before ACCEPT': `
    open far, CREDIT 2 100000, STOP 2, ACCEPT 2 -> OPEN 2 far, FIN 2
    2 is told stop denied, accept`,
  'R-STREAM-2: data sent on a stream before its answer waits for ACCEPT': `
    given holds=true
    OPEN 1, send 1 soon, finish 1 -> nothing
    accept 1 -> ACCEPT 1, DATA 1 4, FIN 1
    FIN 1
    1 is told sent, fin, end`,
  'R-STREAM-3: a service that is not offered, or has no valid name, is refused with unknown-service': [
    ...NAMES.map((service) => `OPEN 1 ${json({ service })} -> REFUSE 1 unknown-service`),
    'given serves=nothing; OPEN 1 nobody -> REFUSE 1 unknown-service',
  ],
  'R-STREAM-4: FIN of an opener follows all of its DATA': `
    open far, ACCEPT 2 -> OPEN 2 far
    send 2 20000, finish 2 -> DATA 2 20000, FIN 2`,
  'R-STREAM-4: an opener sends at once, but no more than 16 KiB before the answer, and FIN after all DATA': `
    given inside=true
    open far, send 2 20000, finish 2 -> OPEN 2 far, DATA 2 16384
    ACCEPT 2 -> DATA 2 3616, FIN 2
    2 is told accept, sent`,
  'R-STREAM-5: opens beyond `streams` are refused, until a stream has ended': `
    given limits.streams=2
    OPEN 1, OPEN 3, OPEN 5 -> ACCEPT 1, ACCEPT 3, REFUSE 5 too-many-streams
    RESET 1, OPEN 7 -> ACCEPT 7`,
  'R-STREAM-5: opens beyond `opens` are refused, until one is answered': `
    given limits.opens=2, holds=true
    OPEN 1, OPEN 3, OPEN 5 -> REFUSE 5 too-many-streams
    accept 3, OPEN 7 -> ACCEPT 3
    OPEN 9 -> REFUSE 9 too-many-streams`,
  'R-STREAM-5: a stream that ended keeps its slot while its bytes are still on this side': `
    given limits.streams=1, inside=true
    OPEN 1, DATA 1 unread, FIN 1, finish 1, OPEN 3 -> ACCEPT 1, FIN 1, REFUSE 3 too-many-streams
    release 1 6, OPEN 5 -> ACCEPT 5`,
  'R-STREAM-5: this side holds its opens back to stay within the limits of its peer': `
    given peerLimits.streams=3, peerLimits.opens=2
    open a, open b, open c, open d, open e -> OPEN 2 a, OPEN 4 b
    ACCEPT 2 -> OPEN 6 c
    ACCEPT 4 -> nothing
    REFUSE 6 -> OPEN 8 d
    RESET 2 -> OPEN 10 e
    ACCEPT 8, open f -> nothing
    reset 4 -> RESET 4 cancelled, OPEN 12 f
    c is told end denied`,
  'a held-back stream can be sent to, finished, stopped and abandoned': `
    given peerLimits.streams=1
    open first, open second, open third -> OPEN 2 first
    send second hello, finish second, stop second, reset third -> nothing
    third is told end cancelled
    REFUSE 2 -> OPEN 4 second, STOP 4 local-error, DATA 4 5, FIN 4`,
  'R-STREAM-7: each direction ends by itself, and nothing follows its FIN': [
    `OPEN 1, DATA 1 question, FIN 1, send 1 answer, finish 1 -> ACCEPT 1, DATA 1 6, FIN 1
     1 is told data, fin, end`,
    `OPEN 1, DATA 1 question, FIN 1, DATA 1 more -> ${WRONG}`,
    `OPEN 1, DATA 1 question, FIN 1, FIN 1 -> ${WRONG}`,
  ],
  'R-STREAM-8: RESET ends both directions and drops what waits': `
    given peerLimits.streamCredit=1024
    OPEN 1, send 1 5000, RESET 1 -> ACCEPT 1, DATA 1 1024
    1 is told end denied
    CREDIT 1 10000 -> nothing`,
  'R-STREAM-8: resetting an incoming stream before its answer sends REFUSE': `
    given holds=true
    OPEN 1, reset 1 local-error -> REFUSE 1 local-error`,
  'R-STREAM-9: STOP is answered with FIN, or with RESET if the other direction has ended': `
    given peerLimits.streamCredit=1024
    OPEN 1, OPEN 3, send 1 5000, send 3 5000, FIN 3 -> ACCEPT 1, ACCEPT 3, DATA 1 1024, DATA 3 1024
    STOP 1, STOP 1, STOP 3 -> FIN 1, RESET 3 denied
    1 is told stop denied
    3 is told fin, end denied
    send 1 swallowed -> nothing
    DATA 1 read, FIN 1
    1 is told stop denied, data, fin, end`,
  'R-STREAM-9: what is sent on a stream after a STOP that came before its answer is dropped': `
    given holds=true
    OPEN 1, STOP 1, send 1 swallowed -> nothing
    accept 1 -> ACCEPT 1, FIN 1`,
  'R-STREAM-9: the sender of STOP drops what arrives until FIN': `
    OPEN 1, stop 1, stop 1, DATA 1 late, FIN 1, finish 1 -> ACCEPT 1, STOP 1 local-error, FIN 1
    1 is told end`,
  'R-STREAM-10: an unanswered open is reset after 30 s, and a late answer is dropped': `
    open far, wait 29999 -> ...
    2 is told nothing
    wait 1 -> RESET 2 open-timeout
    2 is told end open-timeout
    ACCEPT 2, DATA 2 late, FIN 2 -> nothing`,
  'R-STREAM-11: frames on an id that was never opened are protocol errors': ALL.flatMap((name) =>
    [2, 3].map((id) => `OPEN 1, ${name} ${id} -> ${WRONG}`),
  ),
  'R-STREAM-11: frames for a stream that has ended are dropped, also for a skipped id': `
    OPEN 5 -> ACCEPT 5
    RESET 5, open far, REFUSE 2 -> OPEN 2 far
    ${[2, 3, 5].flatMap((id) => ALL.map((name) => `${name} ${id}`)).join(', ')} -> nothing`,
  'R-STREAM-7: the bytes of each direction arrive whole and in order, and its FIN after them': `
    given peerLimits.streamCredit=1048576
    OPEN 1, DATA 1 10000, DATA 1 1, DATA 1 20000, FIN 1, send 1 300000, finish 1 -> ACCEPT 1, DATA 1 131072, DATA 1 131072, DATA 1 37856, FIN 1
    1 is told data, data, data, fin, end`,
  'R-FRAME-7: a malformed frame is a protocol error even if its stream has ended': `OPEN 1, RESET 1, RESET 1 {} -> ${WRONG}`,
  'R-CODE-3: the end of a session ends all its streams, including held-back ones': `
    given peerLimits.streams=1
    open a, open b, OPEN 1, OPEN 1 -> ${WRONG}
    a is told end protocol-error
    b is told end protocol-error`,
};
