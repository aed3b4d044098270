/** `virtserial-open:PATH` and `virtserial-open:NAME`: the guest's end of a virtio-serial port. */
import { type Clock, systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { formatPath, parsePath } from '../util/unix-path.js';
import { channelError, openingCancelled } from './channel-error.js';
import { DEVICE_SLAB_BYTES, openDeviceLink } from './device-link.js';
import type { DialKind } from './kind.js';
import { VM_TRAITS } from './traits.js';
import { openPort, waitForHost } from './virtserial-device.js';
import { type DeviceFolders, findPort } from './virtserial-lookup.js';

/** Where a virtio-serial port is looked for, and by which clock its host is waited for. */
export interface VirtserialOptions extends Partial<DeviceFolders> {
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

/** The kind `virtserial-open`, with its devices in the usual folders unless told otherwise. */
export function virtserialKind(options: VirtserialOptions = {}): DialKind<string> {
  const folders = { dev: options.dev ?? '/dev', sys: options.sys ?? '/sys' };
  const clock = options.clock ?? systemClock;
  return {
    mode: 'dial',
    traits: { ...VM_TRAITS, outlivesRestart: true, leadsToHost: true },
    parse: parsePath,
    format: formatPath,
    async dial(address, context) {
      const description = `virtserial-open:${escapeText(address)}`;
      try {
        if (context.signal.aborted) throw openingCancelled(description);
        const fd = openPort(findPort(address, folders, description), folders, description);
        const firstBytes = await waitForHost(
          fd,
          Buffer.allocUnsafeSlow(DEVICE_SLAB_BYTES),
          description,
          context,
          clock,
        );
        return openDeviceLink(description, fd, firstBytes, clock);
      } catch (error) {
        throw channelError(description, error);
      }
    },
  };
}

/** The kind `virtserial-open`. */
export const virtserialOpen: DialKind<string> = virtserialKind();
