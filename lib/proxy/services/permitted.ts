/** The services of a channel that need the operator's permission, and which permissions are other ones. */

import { statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { ChannelAddress } from '../../channel/address/address.js';
import { VproxyError } from '../../errors.js';
import type { Log } from '../../events.js';
import type { ServiceRegistry } from '../../forward/services.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import type { ChannelOptions } from '../channel-options.js';
import { COPY_SERVICE, copyService, EXEC_SERVICE, execService } from './built-in.js';
import type { Recordings } from './recordings.js';

type Permissions = Pick<ChannelOptions, 'exec' | 'copy'>;

interface PermittedServicesOptions {
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
  readonly recordings: Recordings;
}

/** Offers what is allowed. `start` once, then `stop` once. */
export class PermittedServices {
  readonly #exec: ReturnType<typeof execService>;
  readonly #copy: ReturnType<typeof copyService>;

  constructor(options: PermittedServicesOptions) {
    this.#exec = execService(options);
    this.#copy = copyService(options);
  }

  /** Gives what puts permissions in force; see {@link BuiltInService.prepare}. Throws `bad-argument` where another has the name of a service. */
  prepare({ exec = null, copy = null }: Permissions): () => void {
    const steps = [this.#exec.prepare(exec), this.#copy.prepare(copy)];
    return () => {
      for (const step of steps) step();
    };
  }

  /** Loads what serves the services that are offered. */
  start(): void {
    this.#exec.start();
    this.#copy.start();
  }

  /** Ends commands and copies, within half a second. */
  async stop(): Promise<void> {
    await Promise.all([this.#exec.stop(), this.#copy.stop()]);
  }
}

/** The services that are allowed. */
export const permittedNames = ({ exec = null, copy = null }: Permissions): string[] => [
  ...(exec === null ? [] : [EXEC_SERVICE]),
  ...(copy === null ? [] : [COPY_SERVICE]),
];

/** The services of which the permission is another one. */
export const changedPermissions = (one: Permissions, other: Permissions): string[] => [
  ...(isSame(one.exec, other.exec) ? [] : [EXEC_SERVICE]),
  ...(isSame(one.copy, other.copy) ? [] : [COPY_SERVICE]),
];

const isSame = (one: object | null = null, other: object | null = null): boolean => isDeepStrictEqual(one, other);

/**
 * Throws `bad-argument` where a channel allows commands or copies and strangers could be the peer, or a forward has the
 * name of such a service, or the folder of copies is missing.
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
