/** The text form of a channel: `KIND:ADDRESS[,key=value…]`, where `,,` is a literal comma; a URI; or a QEMU chardev. */
import { badArgument, naming } from '../../errors.js';
import { joinWithCommas, splitAtCommas } from '../../util/addresses/comma-options.js';
import { closestWord, suggestOrList } from '../../util/closest-word.js';
import { escapeText } from '../../util/escape.js';
import { isLabel } from '../../util/labels.js';
import type { ChannelKind, ChannelTraits } from '../kind.js';
import { CHANNEL_KINDS } from '../kinds.js';
import { applyOptions, formatOptions } from './options.js';
import { parseQemuChardev, QEMU_WORD } from './qemu.js';
import { CHANNEL_SCHEMES, type ChannelParts, parseChannelUri, shortName } from './uri.js';

/** A parsed channel. */
export interface ChannelAddress {
  /** @internal */
  readonly kind: ChannelKind;
  /** The name of the kind, such as `unix-connect`. */
  readonly kindName: string;
  /**
   * The result of `kind.parse` with the kind's own options; for `kind.dial` or `kind.listen`.
   *
   * @internal
   */
  readonly address: unknown;
  /**
   * The traits of the kind, with the options applied.
   *
   * @internal
   */
  readonly traits: ChannelTraits;
  /** The canonical text, which `parseChannel` can read; the same for all texts with the same meaning. */
  readonly text: string;
}

/** Parses a channel. Throws `bad-argument`, in one line that says what would be right. */
export function parseChannel(text: string): ChannelAddress {
  const shown = `channel "${escapeText(text)}"`;
  const { kindName, addressText, options } = naming(
    shown,
    () => parseChannelUri(text) ?? parseQemuChardev(text) ?? parseShortForm(text),
  );
  const kind = CHANNEL_KINDS.get(kindName);
  if (kind === undefined) throw badArgument(`${shown}: ${whatWasMeant(text, kindName)}`);
  const { address, traits } = naming(shown, () => applyOptions(kind, kind.parse(addressText), options));
  return { kind, kindName, address, traits, text: formatChannel({ kind, kindName, address, traits }) };
}

/** Common wrong names for kinds, besides the short names. */
const OTHER_NAMES: ReadonlyMap<string, string> = new Map([
  ['serial', 'tty-open'],
  ['socket', 'unix-connect'],
  ['virtio', 'virtserial-open'],
]);

/** The end of the message about an unknown kind or scheme. */
function whatWasMeant(text: string, kindName: string): string {
  const [, scheme] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text) ?? [];
  if (scheme !== undefined)
    return `unknown scheme "${escapeText(scheme, 64)}"; ${suggestOrList(scheme, CHANNEL_SCHEMES)}`;
  if (text.startsWith('/')) return `missing kind before the path; did you mean unix-connect:${escapeText(text)}?`;
  const names = [...CHANNEL_KINDS.keys()];
  if (names.includes(text)) return `missing colon after the kind; did you mean ${text}:?`;
  if (CHANNEL_SCHEMES.includes(kindName) && !names.some((name) => shortName(name) === kindName))
    return `unknown kind "${kindName}"; did you mean ${kindName}://?`;
  const behind = text.slice(text.indexOf(':') + 1);
  if (isLabel(kindName) && names.some((name) => behind.startsWith(`${name}:`)))
    return `unknown kind "${kindName}"; did you mean ${kindName}=${escapeText(behind)}?`;
  const same = OTHER_NAMES.get(kindName) ?? names.find((name) => shortName(name) === kindName);
  const close = same ?? closestWord(kindName, [...names, QEMU_WORD]);
  if (close !== undefined) return `unknown kind "${escapeText(kindName, 64)}"; did you mean ${close}:?`;
  return `expected KIND:ADDRESS, qemu:CHARDEV or a URI, where KIND is one of: ${names.join(', ')}`;
}

function parseShortForm(text: string): ChannelParts {
  const colon = text.indexOf(':');
  const [addressText = '', ...options] = splitAtCommas(text.slice(colon + 1));
  return { kindName: text.slice(0, Math.max(colon, 0)), addressText, options };
}

/** The canonical text of a channel. */
export function formatChannel({ kind, kindName, address, traits }: Omit<ChannelAddress, 'text'>): string {
  return `${kindName}:${joinWithCommas([kind.format(address), ...formatOptions(kind, address, traits)])}`;
}

/**
 * The place that a channel leads to: channels of one machine with the same place are the same channel, however their addresses
 * are spelled. Null if every opening leads to another channel.
 */
export function placeOf({ kind, kindName, address }: ChannelAddress): string | null {
  const place = kind.place === undefined ? kind.format(address) : kind.place(address);
  return place === null ? null : `${kindName}:${place}`;
}
