/** The address of a group of channels, `unix-connect:` and a path whose last part has a `*`, and the options of its channels. */
import { type ChannelAddress, formatChannel } from '../../channel/address/address.js';
import { badArgument, type VproxyError } from '../../errors.js';
import { parseForwardSpec } from '../../forward/spec.js';
import { fillTemplate } from '../../forward/template.js';
import { withoutFinalSlashes } from '../../util/addresses/paths.js';
import { escapeText } from '../../util/escape.js';
import { isPlainLabel, LABEL_RULE } from '../../util/labels.js';
import { DEFAULT_LABEL, type ParsedOptions } from '../channel/channel-options.js';

const STAR = '*';

/** Whether this is the address of a group. Throws `bad-argument` for a misplaced `*`. */
export function isGroup({ kindName, address, text }: ChannelAddress): boolean {
  if (kindName !== 'unix-connect' || typeof address !== 'string' || !address.includes(STAR)) return false;
  if (address.indexOf(STAR) !== address.lastIndexOf(STAR)) throw bad(text, 'more than one *');
  if (address.includes('/', address.indexOf(STAR))) throw bad(text, '* is allowed only in the last part of the path');
  return true;
}

/** Throws `bad-argument` unless these are the options of a single channel: not of a group, and without a template. */
export function requireChannel({ label, address, template = [] }: ParsedOptions): void {
  if (isGroup(address)) throw badArgument(`channel ${label}: a group cannot be added at run time, only by a reload`);
  if (template.length > 0) throw badArgument(`channel ${label}: only a group has a template`);
}

/** Matches the sockets of a group, and gives the addresses of their channels. */
export class GroupPattern {
  /** The path, with the `*`. */
  readonly path: string;
  /** The folder in which the sockets are. */
  readonly folder: string;
  readonly #address: ChannelAddress;
  readonly #folderPrefix: string;
  readonly #prefix: string;
  readonly #suffix: string;

  /** Throws `bad-argument`. */
  constructor(address: ChannelAddress) {
    this.#address = address;
    if (!isGroup(address)) throw bad(address.text, 'a group needs a *');
    this.path = address.address as string;
    const nameStart = this.path.lastIndexOf('/') + 1;
    const [prefix = '', suffix = ''] = this.path.slice(nameStart).split(STAR);
    this.#folderPrefix = this.path.slice(0, nameStart);
    this.folder = withoutFinalSlashes(this.#folderPrefix) || '.';
    this.#prefix = prefix;
    this.#suffix = suffix;
  }

  /** What the `*` matches in a file name; null if the name does not match. */
  match(name: string): string | null {
    if (!name.startsWith(this.#prefix) || !name.endsWith(this.#suffix)) return null;
    const part = name.slice(this.#prefix.length, name.length - this.#suffix.length);
    const isHidden = this.#prefix === '' && part.startsWith('.');
    return part === '' || isHidden || name.length < this.#prefix.length + this.#suffix.length ? null : part;
  }

  pathOf(label: string): string {
    return `${this.#folderPrefix}${this.#prefix}${label}${this.#suffix}`;
  }

  /** The address of the channel of a label, with the options of the group's address. Throws `bad-argument`. */
  addressOf(label: string): ChannelAddress {
    const { kind } = this.#address;
    const parts = { ...this.#address, address: kind.parse(this.pathOf(label)) };
    return { ...parts, text: formatChannel(parts) };
  }
}

/** The options of the channel `label` of a group. Throws `bad-argument` if the template yields an invalid forward. */
export function memberOptions(
  { label: group, template = [], ...options }: ParsedOptions,
  pattern: GroupPattern,
  label: string,
): ParsedOptions {
  return {
    ...options,
    label,
    group,
    address: pattern.addressOf(label),
    forwards: template.map(({ direction, text }) => parseForwardSpec(direction, fillTemplate(text, label))),
  };
}

/** Why what a `*` matches cannot be the label of a channel; null if it can. */
export function memberLabelProblem(part: string): string | null {
  if (part === DEFAULT_LABEL) return `"${DEFAULT_LABEL}" is reserved for a channel without a label`;
  if (isPlainLabel(part)) return null;
  return `a label must be ${LABEL_RULE}, starting with a letter or digit`;
}

function bad(text: string, what: string): VproxyError {
  return badArgument(`channel "${escapeText(text)}": ${what}`);
}
