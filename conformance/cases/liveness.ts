/** R-LIVE-1 to R-LIVE-4, R-CODE-1 and R-CODE-4; and stalls: time in which nothing was sent although something waited. */
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import type { Conversations } from '../script.js';

const ids = Array.from({ length: 1000 }, (_, index) => 2 * index + 1);

export const LIVENESS: Conversations = {
  'R-LIVE-2: a week of silence ends no session if the peer may be paused': `
    OPEN 1, wait 604800000 -> ...
    DATA 1 still -> nothing
    1 is told data`,
  'R-LIVE-2: 30 s of silence end a session if so configured, without a GOAWAY': `
    given settings.deadAfterMs=30000
    wait 29000 -> PING 0, PING 0, PING 0, PING 0, PING 0, PING 0
    PONG 0, wait 29000 -> ...
    wait 10000 -> nothing, ends channel-silent`,
  'R-LIVE-2: a clock that jumped tells nothing about the peer: the wait starts over': `
    given settings.deadAfterMs=30000
    jump 3600000, wait 10000 -> ...
    wait 30000 -> ..., ends channel-silent`,
  'R-LIVE-3: after GOAWAY shutdown by the peer no stream is opened either way, and the open ones continue': `
    open far, open early, ACCEPT 2, OPEN 1 -> OPEN 2 far, OPEN 4 early, ACCEPT 1
    GOAWAY 0 shutdown 2 -> nothing
    early is told end shutdown
    open more -> cannot open: shutdown
    OPEN 3 -> REFUSE 3 shutdown
    DATA 1 still, FIN 1, finish 1 -> FIN 1
    1 is told data, fin, end
    RESET 2 cancelled -> nothing, ends shutdown`,
  'R-LIVE-3: a GOAWAY shutdown ends the session at once if no stream is open, else after 30 s': [
    'GOAWAY 0 shutdown -> nothing, ends shutdown',
    `OPEN 1, GOAWAY 0 shutdown, wait 29999 -> ...
     wait 1 -> RESET 1 shutdown, GOAWAY 0 shutdown 1, ends shutdown
     1 is told end shutdown`,
  ],
  'R-LIVE-4: the loss of a whole frame is detected by the PING that follows': `
    OPEN 1, wait 10000 -> ...
    send 1 x, wait 2500 -> DATA 1 1, PING 0
    wait 4999 -> nothing`,
  'R-LIVE-1: PINGs follow while nothing comes, though nothing else is sent': `
    wait 10000 -> PING 0, PING 0
    pong, pong -> nothing`,
  'R-LIVE-3: a side that drains sends GOAWAY with the highest id that it serves, and leaves with its last stream': `
    OPEN 7, drain update, drain again -> ACCEPT 7, GOAWAY 0 shutdown 7
    OPEN 9 -> REFUSE 9 shutdown
    FIN 7, finish 7 -> FIN 7, ends shutdown`,
  'R-LIVE-3: a drain times out after 30 s: RESET for each stream, then GOAWAY': `
    OPEN 1, OPEN 3, drain update, wait 29999 -> ...
    wait 1 -> RESET 1 shutdown, RESET 3 shutdown, GOAWAY 0 shutdown 3, ends shutdown`,
  'R-LIVE-3: a held-back open ends when the drain begins': `
    given peerLimits.streams=1
    open first, ACCEPT 2, open second -> OPEN 2 first
    drain update -> GOAWAY 0 shutdown
    second is told end shutdown`,
  'R-LIVE-3: a side that stops resets its streams first, opens no held-back one, and sends GOAWAY': `
    given peerLimits.streams=2, holds=true
    open a, open b, open c, open d, OPEN 1 -> OPEN 2 a, OPEN 4 b
    leave -> REFUSE 1 shutdown, RESET 2 shutdown, RESET 4 shutdown, GOAWAY 0 shutdown 1, ends shutdown
    a is told end shutdown
    d is told end shutdown`,
  'R-LIVE-3: the slot of a stream ended by GOAWAY does not go to a held-back open': `
    given peerLimits.streams=2
    open a, open b, open c -> OPEN 2 a, OPEN 4 b
    GOAWAY 0 shutdown 2 -> nothing
    a is told nothing
    b is told end shutdown
    c is told end shutdown`,
  'R-LIVE-1: a PING is answered with its own bytes': 'PING 0 hex:0001020304050607 -> PONG 0; PING 0 12345678 -> PONG 0',
  'R-LIVE-1: a PONG that answers no PING is ignored': 'PONG, PONG -> nothing',
  'R-LIVE-3: a side that leaves with an open stream resets it before GOAWAY': `
    OPEN 1 -> ACCEPT 1
    leave -> RESET 1 shutdown, GOAWAY 0 shutdown 1, ends shutdown`,
  'R-LIVE-4: a frame that lost bytes and is followed by nothing is detected': INTEGRITY_LEVELS.flatMap((level) =>
    [1, 24, 2500].map(
      (lost) => `
        given integrity=${level}
        OPEN 1, DATA 1 4000 !lostFrom=1000 !lost=${lost}, wait 2500 -> ACCEPT 1, ...
        pong -> ..., ends desync`,
    ),
  ),
  'R-CODE-4: any other GOAWAY ends the session at once and is not answered': [
    'flood',
    'protocol-error',
    'a-code-of-tomorrow',
  ].map((code) => `OPEN 1 -> ACCEPT 1; GOAWAY 0 ${code} -> nothing, ends ${code}; 1 is told end ${code}`),
  'R-CODE-1: an unknown code is handed on as is': `
    OPEN 1, RESET 1 moon-phase -> ACCEPT 1
    1 is told end moon-phase`,
  'a peer that gives no more credit does not read: that is a stall': `
    given peerLimits.inFlight=65536
    OPEN 1, CREDIT 1 1099511627776, wait 5000 -> ...
    0 ms were stalls
    send 1 4194304, wait 999
    0 ms were stalls
    wait 1001
    2000 ms were stalls
    CREDIT 0 70000
    2000 ms were stalls
    wait 3000
    5000 ms were stalls
    CREDIT 0 1099511627776, wait 5000 -> ...
    5000 ms were stalls`,
  'a channel that takes nothing stalls until it has drained': `
    given capacityBytes=100000, peerLimits.inFlight=1073741824
    OPEN 1, CREDIT 1 1099511627776, deafen, send 1 4194304, wait 4000
    4000 ms were stalls
    read, wait 5000 -> ...
    4000 ms were stalls`,
  'waiting for a fully used channel is not a stall': `
    given peerLimits.inFlight=10000
    OPEN 1, CREDIT 1 1099511627776, send 1 4194304
    ${Array.from({ length: 28 }, (_, index) => `wait 900, CREDIT 0 ${10_000 * (index + 2)}`).join(', ')} -> ...
    0 ms were stalls`,
  'a stream that waits for its own credit is not a stall of the channel': `
    given peerLimits.streamCredit=2000
    OPEN 1, send 1 4194304, wait 3000 -> ...
    0 ms were stalls`,
  'control frames also stall on a channel that takes nothing, and only as long': `
    given capacityBytes=1
    ${ids.map((id) => `OPEN ${id}`).join(', ')}, deafen, ${ids.map((id) => `stop ${id}`).join(', ')}, wait 2000
    2000 ms were stalls
    read, wait 2000 -> ...
    2000 ms were stalls`,
};
