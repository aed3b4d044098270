/** The services of a channel that need the operator's permission, and how their permissions change. */

import { statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { ChannelAddress } from '../../channel/address/address.js';
import { VproxyError } from '../../errors.js';
import type { Log } from '../../events.js';
import type { ServiceRegistry } from '../../forward/service-registry.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import type { ChannelOptions } from '../channel-options.js';
import { COPY_SERVICE, copyService, EXEC_SERVICE, execService, INFO_SERVICE, infoService } from './built-in.js';
import type { Recordings } from './recordings.js';

type Permissions = Pick<ChannelOptions, 'exec' | 'copy' | 'info'>;

interface PermittedServicesOptions {
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
  readonly recordings: Recordings;
}

/** Offers the permitted services. Call `start` once, then `stop` once. */
export class PermittedServices {
  readonly #exec: ReturnType<typeof execService>;
  readonly #copy: ReturnType<typeof copyService>;
  readonly #info: ReturnType<typeof infoService>;

  constructor(options: PermittedServicesOptions) {
    this.#exec = execService({ ...options, findRecorder: options.recordings.find });
    this.#copy = copyService(options);
    this.#info = infoService(options);
  }

  /** Returns a function that applies the permissions: see {@link BuiltInService.prepare}. Throws as that does. */
  prepare(channel: ChannelAddress, options: ChannelOptions): () => void {
    const { exec = null, copy = null } = options;
    const info = offersInfo(channel, options) ? true : null;
    const steps = [this.#exec.prepare(exec), this.#copy.prepare(copy), this.#info.prepare(info)];
    return () => {
      for (const step of steps) step();
    };
  }

  /** Loads the code of the offered services. */
  start(): void {
    this.#exec.start();
    this.#copy.start();
    this.#info.start();
  }

  /** Ends commands, copies and answers, within half a second. */
  async stop(): Promise<void> {
    await Promise.all([this.#exec.stop(), this.#copy.stop(), this.#info.stop()]);
  }
}

/** Whether `info` is offered: by default if the peer is a host, unless a forward has the name of the service. */
function offersInfo({ traits }: ChannelAddress, { info = traits.leadsToHost, forwards = [] }: ChannelOptions): boolean {
  return info && !forwards.some(({ direction, service }) => direction === 'incoming' && service === INFO_SERVICE);
}

/** The names of the services that are offered. */
export const permittedNames = (channel: ChannelAddress, options: ChannelOptions): string[] => [
  ...((options.exec ?? null) === null ? [] : [EXEC_SERVICE]),
  ...((options.copy ?? null) === null ? [] : [COPY_SERVICE]),
  ...(offersInfo(channel, options) ? [INFO_SERVICE] : []),
];

/** The options that allow services, with the services. */
const allowedBy = ({ exec = null, copy = null, info = false }: Permissions): (readonly [string, string])[] => [
  ...(exec === null ? [] : [['--allow-exec', EXEC_SERVICE] as const]),
  ...(copy === null ? [] : [['--allow-copy', COPY_SERVICE] as const]),
  ...(info ? [['--info', INFO_SERVICE] as const] : []),
];

/** The services whose permissions differ. */
export const changedPermissions = (one: Permissions, other: Permissions): string[] => [
  ...(isSame(one.exec, other.exec) ? [] : [EXEC_SERVICE]),
  ...(isSame(one.copy, other.copy) ? [] : [COPY_SERVICE]),
  ...(one.info === other.info ? [] : [INFO_SERVICE]),
];

const isSame = (one: object | null = null, other: object | null = null): boolean => isDeepStrictEqual(one, other);

/**
 * Throws `bad-argument` if a channel allows commands, copies or `info` to a peer that could be a stranger, if a forward has
 * the name of such a service, or if the folder for copies is missing.
 */
export function requireAllowable(channel: ChannelAddress, options: ChannelOptions): void {
  for (const [option, service] of allowedBy(options)) requireAllowed(option, service, channel, options);
  const root = options.copy?.root ?? null;
  if (root !== null && !isFolder(root)) {
    throw new VproxyError('bad-argument', `--allow-copy=${escapeText(root)}: no such folder`);
  }
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function requireAllowed(
  option: string,
  service: string,
  { kind, address, text, traits }: ChannelAddress,
  options: ChannelOptions,
): void {
  const { forwards = [], keyFiles = [], insecure = false } = options;
  const isKnown = traits.tls !== null || keyFiles.length > 0 || insecure;
  const strangers = kind.strangers?.(address) ?? null;
  if (!isKnown && strangers !== null) {
    const what = `the peer could be ${strangers}; give both sides a --key FILE, or this one --insecure`;
    throw new VproxyError('bad-argument', `channel "${escapeText(text)}": ${option}: ${what}`);
  }
  if (forwards.some((spec) => spec.direction === 'incoming' && spec.service === service)) {
    const what = `service ${service} is offered twice; ${option} offers it, and so does an -i`;
    throw new VproxyError('bad-argument', `channel "${escapeText(text)}": ${what}`);
  }
}
