/** R-FLOW-2 to R-FLOW-7. */
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import type { Conversations } from '../script.js';

export const FLOW_CONTROL: Conversations = {
  'R-FLOW-2: DATA up to the credit of a stream is accepted, one byte more is flow-control': [
    'given limits.streamCredit=5000; OPEN 1, DATA 1 {streamCredit-1000}, DATA 1 1000 -> ACCEPT 1',
    ...INTEGRITY_LEVELS.map(
      (level) => `given limits.streamCredit=5000, integrity=${level}; OPEN 1, fill 1, DATA 1 1 -> ends flow-control`,
    ),
  ],
  'R-FLOW-2: credit also binds after this side has sent STOP and drops what comes':
    'given limits.streamCredit=5000; OPEN 1, stop 1, DATA 1 5000 -> ...; DATA 1 1 -> ends flow-control',
  'R-FLOW-2: DATA above the credit of the session is flow-control, also for streams that have ended': [
    'given limits.inFlight=4096; OPEN 1, DATA 1 4097 -> ends flow-control',
    'given limits.inFlight=4096; OPEN 1, RESET 1, DATA 1 4097 -> ends flow-control',
  ],
  'R-FLOW-2: credit is a total: one that lowers it is ignored, a repeated one does nothing': `
    given peerLimits.streamCredit=2000, peerLimits.inFlight=3000
    OPEN 1, CREDIT 1 1000, CREDIT 0 1000, send 1 9000 -> ACCEPT 1, DATA 1 2000
    CREDIT 1 2000 -> nothing
    CREDIT 1 8000 -> DATA 1 1000
    CREDIT 0 3000 -> nothing
    CREDIT 0 18446744073709551615 -> DATA 1 5000
    CREDIT 1 18446744073709551615, CREDIT 1 0 -> DATA 1 1000`,
  'R-FLOW-3: stream credit is raised once half of the window has left the receiver': `
    given limits.streamCredit=4000, inside=true
    OPEN 1, wait 5000, DATA 1 4000, release 1 1999 -> ACCEPT 1, PING 0
    release 1 1 -> CREDIT 1 6000`,
  'R-FLOW-3: a stream whose window is used up gets credit when its local end has read, and no less than before': `
    given limits.streamCredit=4000
    OPEN 1, wait 5000, fill 1 -> ACCEPT 1, PING 0
    release 1 {streamCredit} -> CREDIT 1 {streamCredit+4000}
    DATA 1 1000, FIN 1 -> nothing
    1 is told data, data, fin`,
  'R-FLOW-3: no credit is given after the peer has ended its direction or was stopped': `
    given limits.streamCredit=4000
    OPEN 1, OPEN 3, DATA 1 4000, DATA 3 4000, FIN 1, stop 3 -> ACCEPT 1, ACCEPT 3, STOP 3 local-error
    release 1 4000, release 3 4000 -> nothing`,
  'R-FLOW-5: session credit is raised as DATA arrives, read or not, when a quarter is used': `
    given limits.inFlight=4000
    OPEN 1, DATA 1 999 -> ACCEPT 1
    DATA 1 1 -> CREDIT 0 5000
    RESET 1, DATA 1 1000 -> CREDIT 0 6000`,
  'R-FLOW-5: session credit is raised as DATA arrives, also for a stream that has ended': `
    given limits.inFlight=4000
    OPEN 1 -> ACCEPT 1
    RESET 1, DATA 1 {inFlight} -> CREDIT 0 {inFlight+4000}`,
  'R-FLOW-7: DATA is sent one frame per stream in turn, after control frames': `
    given capacityBytes=4096, peerLimits.streamCredit=1048576
    OPEN 1, OPEN 3, OPEN 5 -> ...
    deafen, send 1 200000, send 3 200000, send 5 140000, PING 0 -> nothing
    read -> DATA 1 131072, PONG 0, DATA 1 68928, DATA 3 131072, DATA 5 131072, DATA 3 68928, DATA 5 8928`,
  'a stream without credit does not delay another one, and credit that comes with ACCEPT is used at once': `
    given peerLimits.streamCredit=1024
    OPEN 1, OPEN 3, send 1 5000, send 3 quick -> ACCEPT 1, ACCEPT 3, DATA 1 1024, DATA 3 5
    STOP 1 -> FIN 1
    open far, send far 9000, ACCEPT 2, CREDIT 2 9000 -> OPEN 2 far, DATA 2 1024, DATA 2 7976`,
};
