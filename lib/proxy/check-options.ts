/** Whether the options of a channel or of a group are valid and allowed here, found out before anything is made of them. */

import { type ChannelAddress, parseChannel } from '../channel/address/address.js';
import { toVproxyError, VproxyError } from '../errors.js';
import { checkForward } from '../forward/spec.js';
import type { SecretKey } from '../session/auth.js';
import { type ChannelOptions, DEFAULT_LABEL, parseLabel, readKeys, requirePrivacy } from './channel-options.js';
import { GroupPattern, isGroup, memberOptions, requireChannel } from './group-pattern.js';
import { requireAllowable } from './services/permitted.js';

/** What the options of a channel say, and what is in its files of keys. */
interface CheckedChannel {
  readonly label: string;
  readonly address: ChannelAddress;
  readonly keys: readonly SecretKey[];
}

/**
 * Throws `bad-argument` for a label, an address or a forward that is not valid or not allowed, and for a user or a group that
 * is not known; `bad-file` for a key.
 */
export function checkChannelOptions(options: ChannelOptions): CheckedChannel {
  requireChannel(options);
  const label = parseLabel(options.label ?? DEFAULT_LABEL);
  const address = parseChannel(options.address);
  requirePrivacy(address, options.insecure ?? false);
  requireAllowable(address, options);
  const keys = readKeys(options, address);
  for (const spec of options.forwards ?? []) checkForward(spec);
  return { label, address, keys };
}

/** What the options of a group say. */
interface CheckedGroup {
  readonly label: string;
  readonly pattern: GroupPattern;
}

/** Throws `bad-argument` for a label, an address or a template that is not valid or not allowed; `bad-file` for a key. */
export function checkGroupOptions(options: ChannelOptions): CheckedGroup {
  const label = parseLabel(options.label ?? DEFAULT_LABEL);
  const pattern = new GroupPattern(options.address);
  if ((options.forwards ?? []).length > 0) {
    throw new VproxyError('bad-argument', `channel ${label}: the forwards of a group are a template of texts`);
  }
  // Finds what is not valid in the template, the keys and the permissions before any socket is there.
  const member = memberOptions(options, pattern, 'a');
  const address = parseChannel(member.address);
  readKeys(member, address);
  requireAllowable(address, member);
  return { label, pattern };
}

/** Why a proxy would not take these options of a channel or of a group; null where it would. */
export function findRefusal(options: ChannelOptions): VproxyError | null {
  try {
    if (isGroup(options)) checkGroupOptions(options);
    else checkChannelOptions(options);
    return null;
  } catch (error) {
    return toVproxyError(error);
  }
}
