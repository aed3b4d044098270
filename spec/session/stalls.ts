/** How long nothing passed although something waited: what is said of a channel's stalls. */
import { conversations } from '../helpers/conversation.js';

const ids = Array.from({ length: 1000 }, (_, index) => 2 * index + 1);

conversations({
  'a peer that gives no credit for what it was sent does not read: that is a stall': `
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
  'a channel that takes nothing stalls, until it has written what it had': `
    given capacityBytes=100000, peerLimits.inFlight=1073741824
    OPEN 1, CREDIT 1 1099511627776, deafen, send 1 4194304, wait 4000
    4000 ms were stalls
    read, wait 5000 -> ...
    4000 ms were stalls`,
  'what waits because it is used to the full is no stall': `
    given peerLimits.inFlight=10000
    OPEN 1, CREDIT 1 1099511627776, send 1 4194304
    ${Array.from({ length: 28 }, (_, index) => `wait 900, CREDIT 0 ${10_000 * (index + 2)}`).join(', ')} -> ...
    0 ms were stalls`,
  'a stream that waits for its own credit says nothing of the channel': `
    given peerLimits.streamCredit=2000
    OPEN 1, send 1 4194304, wait 3000 -> ...
    0 ms were stalls`,
  'frames of control wait for a channel that takes nothing as well, and no longer than that': `
    given capacityBytes=1
    ${ids.map((id) => `OPEN ${id}`).join(', ')}, deafen, ${ids.map((id) => `stop ${id}`).join(', ')}, wait 2000
    2000 ms were stalls
    read, wait 2000 -> ...
    2000 ms were stalls`,
});
