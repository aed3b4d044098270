import { bothWays, testEnds, testLinks } from '../helpers/channel-conformance.js';
import { openTcpPair, openUnixPair } from '../helpers/channel-pair.js';

for (const [name, open] of [
  ['unix', openUnixPair],
  ['tcp', openTcpPair],
] as const) {
  const [dialled, accepted] = bothWays(open);
  testLinks(`${name}-connect`, dialled);
  testLinks(`${name}-listen`, accepted);
  testEnds(`${name}-connect`, dialled);
  testEnds(`${name}-listen`, accepted);
}
