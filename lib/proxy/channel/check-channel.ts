/** Validates the options of a channel or of a group before anything is created from them. */

import { type ChannelAddress, placeOf } from '../../channel/address/address.js';
import { badArgument, toVproxyError, type VproxyError } from '../../errors.js';
import type { EgressRules } from '../../forward/egress/rules.js';
import { requireUsable } from '../../forward/forms/endpoint-forms.js';
import { checkAccess } from '../../forward/spec.js';
import { fillTemplate } from '../../forward/template.js';
import { requireAllowable } from '../../services/permitted.js';
import type { SecretKey } from '../../session/opening/auth.js';
import { requireEgress, resolveEgress } from '../egress/definitions.js';
import { GroupPattern, isGroup, memberOptions, requireChannel } from '../groups/group-pattern.js';
import { requireNoPortService, socketPathOf } from '../ports/port-rules.js';
import { requireRecordable } from '../services/recordings.js';
import {
  type ChannelOptions,
  type ParsedOptions,
  parseOptions,
  placeTaken,
  readKeys,
  requirePrivacy,
} from './channel-options.js';

/** What a channel is made of: options that passed all checks, and what they lead to. */
export interface CheckedChannel extends Placed {
  readonly options: ParsedOptions;
  readonly keys: readonly SecretKey[];
  /** The rules in effect, by egress name. */
  readonly egress: ReadonlyMap<string, EgressRules>;
}

/**
 * Throws `bad-argument` for a label, an address, a forward or an egress that is invalid or not allowed, and for a forward to an
 * undefined egress; `bad-file` for a key.
 */
export function checkChannel(given: ChannelOptions): CheckedChannel {
  const options = parseOptions(given);
  const { label, address } = options;
  requireChannel(options);
  requirePrivacy(options);
  requireAllowable(options);
  requireRecordable(options);
  const keys = readKeys(options);
  const egress = resolveEgress(options.egress ?? {}, label);
  for (const spec of options.forwards ?? []) {
    requireUsable(spec.direction, spec.service, spec.endpoint);
    requireEgress(spec, egress.keys());
  }
  requireDistinctPorts(options);
  return { options, label, address, place: placeOf(address), keys, egress };
}

/** Throws `bad-argument` for a service with a name reserved for announced ports, or an invalid folder for port sockets. */
function requireDistinctPorts({
  label,
  announcePorts = null,
  forwardPorts = null,
  forwards = [],
}: ParsedOptions): void {
  if (announcePorts !== null) requireNoPortService(forwards);
  const folder = forwardPorts?.folder ?? null;
  if (folder !== null) socketPathOf(folder, label, 65_535);
}

interface CheckedGroup {
  readonly options: ParsedOptions;
  readonly pattern: GroupPattern;
}

/** Throws `bad-argument` for a label, an address or a template that is invalid or not allowed; `bad-file` for a key. */
export function checkGroup(given: ChannelOptions): CheckedGroup {
  const options = parseOptions(given);
  const { label, address, forwards = [], template = [] } = options;
  const pattern = new GroupPattern(address);
  if (forwards.length > 0) throw badArgument(`channel ${label}: a group takes a template in place of forwards`);
  // Validates the template, the egresses, the keys and the permissions before any socket appears.
  const member = memberOptions(options, pattern, 'a');
  const egress = resolveEgress(member.egress ?? {}, 'a');
  // A template that names an egress by {channel} can only be checked with the label.
  const fixed = (member.forwards ?? []).filter((_spec, index) => {
    const { text = '' } = template[index] ?? {};
    return fillTemplate(text, 'a') === text;
  });
  for (const spec of fixed) requireEgress(spec, egress.keys());
  readKeys(member);
  requireAllowable(member);
  requireRecordable(member);
  requireDistinctPorts(member);
  return { options, pattern };
}

/** Why a proxy would reject these options of a channel or of a group; null if it would accept them. */
export function findRefusal(given: ChannelOptions): VproxyError | null {
  try {
    const options = parseOptions(given);
    if (isGroup(options.address)) checkGroup(options);
    else checkChannel(options);
    return null;
  } catch (error) {
    return toVproxyError(error);
  }
}

/** Rejects if forwards could not listen with the access that they ask for, such as with `bad-argument` for an unknown user. */
export async function requireAccess({ forwards = [] }: ChannelOptions): Promise<void> {
  for (const spec of forwards) await checkAccess(spec);
}

/** Why a proxy would not start with each of these channels and groups, by label, as far as can be told in advance. */
export async function findObstacles(channels: readonly ParsedOptions[]): Promise<Map<string, VproxyError>> {
  const [found, twins] = [new Map<string, VproxyError>(), findTwins(channels)];
  for (const channel of channels) {
    const refusal = (await findObstacle(channel)) ?? twins.get(channel.label);
    if (refusal !== undefined) found.set(channel.label, refusal);
  }
  return found;
}

/** The same for one; null if it would. */
export async function findObstacle(options: ChannelOptions): Promise<VproxyError | null> {
  const refusal = findRefusal(options);
  if (refusal !== null) return refusal;
  return requireAccess(options).then(
    () => null,
    (error: unknown) => toVproxyError(error),
  );
}

/** The properties of a channel that must be unique in its process. */
interface Placed {
  readonly label: string;
  readonly address: ChannelAddress;
  /** See `placeOf`. */
  readonly place: string | null;
}

/** Maps the label of each of `coming` that is the same channel as one of `staying`, or as an earlier one, to the error. */
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

/** The same for the channels of a configuration; groups are ignored. */
export function findTwins(channels: readonly ParsedOptions[]): Map<string, VproxyError> {
  const alone = channels.filter(({ address }) => !isGroup(address));
  return findSame(alone.map(({ label, address }) => ({ label, address, place: placeOf(address) })));
}
