/** vproxy over a unix socket with default settings, and the common parts of its variants. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseChannel } from '../../../lib/channel/address/address.js';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { findFreePort } from '../process/free-port.js';
import type { Contender, ContenderSetting, RunningContender } from './contender.js';

interface Package {
  readonly bin: Readonly<Record<'vproxy' | 'vproxy-storage', string>>;
}

const { bin } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as Package;

/** The command line of vproxy, as the package has it. */
export const VPROXY_SCRIPT = join(PROJECT_ROOT, bin.vproxy);

/** The storage wrapper, as the package has it. */
export const STORAGE_SCRIPT = join(PROJECT_ROOT, bin['vproxy-storage']);

/**
 * More streams than the largest measurement opens. Empty if vproxy has a fixed limit, which the figures then show.
 */
const STREAMS_OPTION = isChannel('unix-connect:/x,streams=20000') ? ',streams=20000' : '';

/** vproxy on a unix socket. */
export const vproxy: Contender = {
  id: 'vproxy',
  title: 'vproxy',
  descriptorsPerStream: 1,
  missing: () => undefined,
  start: (setting) => startOnUnixSocket(setting),
};

/** Starts both sides on a unix socket with these options of the channel, and `more` arguments for each side. */
export function startOnUnixSocket(
  setting: ContenderSetting,
  options = '',
  more: readonly string[] = [],
): Promise<RunningContender> {
  const path = join(setting.folder, 'channel.sock');
  const dialled = setting.through?.(path) ?? path;
  return startVproxy(setting, `unix-listen:${path}${options}`, `unix-connect:${dialled}${options}`, more);
}

/** Starts a side on each of two channels, at the same time, with `more` arguments: the same for both, or some for each. */
export async function startVproxy(
  { programs, target, folder }: ContenderSetting,
  nearChannel: string,
  farChannel: string,
  more: readonly string[] | Readonly<Record<'near' | 'far', readonly string[]>> = [],
): Promise<RunningContender> {
  const address = await findFreePort();
  // Each has a control socket, as usual; it is in the folder, which is removed, since the process is killed.
  const run = (channel: string, side: 'near' | 'far', ...forward: string[]) => {
    const control = ['--control', join(folder, `${side}-control.sock`)];
    const args = [
      '-c',
      channel + STREAMS_OPTION,
      '--quiet',
      ...control,
      ...('near' in more ? more[side] : more),
      ...forward,
    ];
    return programs.startScript(VPROXY_SCRIPT, args);
  };
  return {
    address,
    near: [run(nearChannel, 'near', '-o', `load:127.0.0.1:${address}`)],
    far: [run(farChannel, 'far', '-i', `load:127.0.0.1:${target}`)],
  };
}

function isChannel(text: string): boolean {
  try {
    parseChannel(text);
    return true;
  } catch {
    return false;
  }
}
