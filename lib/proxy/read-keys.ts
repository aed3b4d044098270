/** The keys of a channel, from the files that have them. */
import type { ChannelAddress } from '../channel/address.js';
import { toVproxyError, VproxyError } from '../errors.js';
import { SecretKey } from '../session/secret-key.js';
import { escapeText } from '../util/escape.js';
import { readSecretFile } from '../util/secret-file.js';
import type { ChannelOptions } from './channel-options.js';

/** More would not fit HELLO, which names them all. */
const MAX_KEYS = 32;

/**
 * The keys in `keyFiles`, in their order. Throws `bad-file`, which names the file and shows nothing of it, and
 * `bad-argument` for too many, or for none where the channel needs one.
 */
export function readKeys({ keyFiles = [] }: ChannelOptions, { text, traits }: ChannelAddress): SecretKey[] {
  if (keyFiles.length > MAX_KEYS) throw bad(text, `${keyFiles.length} keys exceed ${MAX_KEYS}`);
  if (traits.tls === 'psk' && keyFiles.length === 0) throw bad(text, 'tls=psk needs a key (--key FILE)');
  return keyFiles.map(readKey);
}

function readKey(path: string): SecretKey {
  try {
    return SecretKey.parse(readSecretFile(path));
  } catch (error) {
    const { message } = toVproxyError(error);
    const isNamed = message.startsWith(escapeText(path));
    throw new VproxyError('bad-file', isNamed ? message : `${escapeText(path)}: ${message}`);
  }
}

const bad = (channel: string, what: string): VproxyError =>
  new VproxyError('bad-argument', `channel "${escapeText(channel)}": ${what}`);
