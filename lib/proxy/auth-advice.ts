/** What people can do about two sides that do not let each other in. */
import type { ChannelTraits } from '../channel/kind.js';
import type { Agreement } from '../session/agreement.js';

/** For behind the reason of an `auth-failed`; null where that says what to do. */
export function adviceFor({ self, peer }: Agreement, { tls }: ChannelTraits): string | null {
  if (self.tls !== peer.tls) return null;
  if (tls === 'cert') return 'look at ca=, cert=, key= and peer= of both sides';
  if (self.auth === null) return "give this side the peer's key with --key FILE";
  if (peer.auth === null) return "give the peer this side's key with --key FILE";
  return 'give both sides the same key with --key FILE';
}
