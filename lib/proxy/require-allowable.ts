/** On which channels a peer may be allowed what changes this machine: to run commands, to write files. */
import { statSync } from 'node:fs';
import type { ChannelAddress } from '../channel/address.js';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import type { ChannelOptions } from './channel-options.js';
import { permittedNames } from './permitted-services.js';

/**
 * Throws `bad-argument` where a channel allows commands or copies and strangers could be the peer, or a forward has the
 * name of such a service, or the folder of copies is none.
 */
export function requireAllowable(channel: ChannelAddress, options: ChannelOptions): void {
  for (const service of permittedNames(options)) requireAllowed(service, channel, options);
  const root = options.copy?.root ?? null;
  if (root !== null && !isFolder(root)) {
    throw new VproxyError('bad-argument', `--allow-copy=${escapeText(root)}: there is no such folder`);
  }
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function requireAllowed(service: string, { kind, address, text, traits }: ChannelAddress, options: ChannelOptions) {
  const { forwards = [], keyFiles = [], insecure = false } = options;
  const isKnown = traits.tls !== null || keyFiles.length > 0 || insecure;
  const strangers = kind.strangers?.(address) ?? null;
  if (!isKnown && strangers !== null) {
    const what = `the peer could be ${strangers}; give both sides a --key FILE, or this one --insecure`;
    throw new VproxyError('bad-argument', `channel "${escapeText(text)}": --allow-${service}: ${what}`);
  }
  if (forwards.some((spec) => spec.direction === 'incoming' && spec.service === service)) {
    const what = `service ${service} is offered twice; --allow-${service} offers it, and so does an -i`;
    throw new VproxyError('bad-argument', `channel "${escapeText(text)}": ${what}`);
  }
}
