/** Whether the options of a channel or of a group are valid and allowed here, found out before anything is made of them. */

import { type ChannelAddress, parseChannel, placeOf } from '../channel/address/address.js';
import { toVproxyError, VproxyError } from '../errors.js';
import type { EgressRules } from '../forward/egress/rules.js';
import { checkForward, parseForwardSpec } from '../forward/spec.js';
import { fillTemplate } from '../forward/template.js';
import type { SecretKey } from '../session/opening/auth.js';
import { requireEgress, resolveEgress } from './channel-egress.js';
import {
  type ChannelOptions,
  DEFAULT_LABEL,
  parseLabel,
  placeTaken,
  readKeys,
  requirePrivacy,
} from './channel-options.js';
import { GroupPattern, isGroup, memberOptions, requireChannel } from './groups/group-pattern.js';
import { requireNoPortService, socketPathOf } from './ports/port-rules.js';
import { requireAllowable } from './services/permitted.js';
import { requireRecordable } from './services/recordings.js';

/** What the options of a channel say, and what is in its files of keys. */
interface CheckedChannel {
  readonly label: string;
  readonly address: ChannelAddress;
  readonly keys: readonly SecretKey[];
  readonly egress: ReadonlyMap<string, EgressRules>;
}

/**
 * Throws `bad-argument` for a label, an address, a forward or an egress that is not valid or not allowed, for a forward to an
 * egress of which nothing is said, and for a user or a group that is not known; `bad-file` for a key.
 */
export function checkChannelOptions(options: ChannelOptions): CheckedChannel {
  requireChannel(options);
  const label = parseLabel(options.label ?? DEFAULT_LABEL);
  const address = parseChannel(options.address);
  requirePrivacy(address, options.insecure ?? false);
  requireAllowable(address, options);
  requireRecordable(options);
  const keys = readKeys(options, address);
  const egress = resolveEgress(options.egress ?? {}, label);
  for (const spec of options.forwards ?? []) {
    checkForward(spec);
    requireEgress(spec, egress.keys());
  }
  requireDistinctPorts(options, label);
  return { label, address, keys, egress };
}

/** Throws `bad-argument` where a service has the name of an announced port's, or a folder for sockets of ports is no path for them. */
function requireDistinctPorts(
  { announcePorts = null, forwardPorts = null, forwards = [] }: ChannelOptions,
  label: string,
): void {
  if (announcePorts !== null) requireNoPortService(forwards);
  const folder = forwardPorts?.folder ?? null;
  if (folder !== null) socketPathOf(folder, label, 65_535);
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
  // Finds what is not valid in the template, the egresses, the keys and the permissions before any socket is there.
  const member = memberOptions(options, pattern, 'a');
  const egress = resolveEgress(member.egress ?? {}, 'a');
  // Which egress a label names is known with the label.
  const fixed = (options.template ?? []).filter(({ text }) => fillTemplate(text, 'a') === text);
  for (const { direction, text } of fixed) requireEgress(parseForwardSpec(direction, text), egress.keys());
  const address = parseChannel(member.address);
  readKeys(member, address);
  requireAllowable(address, member);
  requireRecordable(member);
  requireDistinctPorts(member, 'a');
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

/** What a channel has that no other one of its process may have. */
interface Placed {
  readonly label: string;
  readonly address: ChannelAddress;
  /** See `placeOf`. */
  readonly place: string | null;
}

/** The refusal, by its label, of each of `coming` that is the same channel as one of `staying`, or as one before it. */
export function findSame(coming: Iterable<Placed>, staying: Iterable<Placed> = []): Map<string, VproxyError> {
  const owners = new Map([...staying].map(({ place, label }) => [place, label]));
  const refused = new Map<string, VproxyError>();
  for (const { label, place, address } of coming) {
    const owner = place === null ? undefined : owners.get(place);
    if (owner !== undefined) refused.set(label, placeTaken(label, address.text, owner));
    else owners.set(place, label);
  }
  return refused;
}

/** The same of channels of a configuration; groups are not looked at. */
export function findTwins(channels: readonly ChannelOptions[]): Map<string, VproxyError> {
  const placed = channels
    .filter((options) => !isGroup(options))
    .map(({ label = DEFAULT_LABEL, address: text }) => {
      const address = parseChannel(text);
      return { label, address, place: placeOf(address) };
    });
  return findSame(placed);
}
