/** The file systems of peers that are frozen through requests: another request thaws them. */
import { VproxyError } from '../../errors.js';
import type { Proxy } from '../../proxy/proxy.js';
import { FreezeCall } from '../../services/freeze/freeze-call.js';
import { FREEZE_SERVICE, type FreezeRequest, type Thawed } from '../../services/freeze/freeze-messages.js';
import { systemClock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';

/** By channel. A call is kept until someone asks for the thaw, and learns whether it was still frozen. */
const CALLS = new WeakMap<Proxy, Map<string, FreezeCall>>();

/** Freezes file systems of the peer of a channel. Rejects with `freeze-failed`. */
export async function freezePeer(
  proxy: Proxy,
  channel: string,
  request: FreezeRequest,
  signal: AbortSignal,
): Promise<FreezeCall> {
  const stream = await proxy.openStream(FREEZE_SERVICE, channel, { signal });
  const call = await FreezeCall.begin(stream, request, { clock: systemClock, signal });
  const calls = CALLS.get(proxy) ?? new Map<string, FreezeCall>();
  CALLS.set(proxy, calls.set(channel, call));
  return call;
}

/** Thaws what `freezePeer` froze. Rejects with `not-found`, or with the reason why the outcome is not known. */
export async function thawPeer(proxy: Proxy, channel: string): Promise<Thawed> {
  const call = CALLS.get(proxy)?.get(channel);
  if (call === undefined)
    throw new VproxyError('not-found', `${escapeText(channel, 64)} is not frozen by this process`);
  CALLS.get(proxy)?.delete(channel);
  return call.thaw();
}
