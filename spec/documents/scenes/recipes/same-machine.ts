/**
 * A guest in name only: its blocks run on the machine of the scene, with the host's end of the channel at QEMU's socket.
 * For recipes that need programs that the bare guest of the VM tests lacks.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commandsOf } from '../../commands-of.js';
import type { GuestPlace, Scene } from '../../runner/scene.js';
import { Shell } from '../../runner/shell.js';
import { hasSession, type Stage } from '../../runner/stage.js';
import { startStaying } from '../../runner/staying.js';

/** The path of the host's end of the port, as in QEMU. */
const CHANNEL = '/run/vm1.sock';

/** Wraps the real program: the guest's port becomes the host's socket, and its control socket is not the host's. */
const SHIM = `#!/bin/sh
for word; do
  shift
  case $word in
    virtserial-open:*) set -- "$@" unix-listen:${CHANNEL} --no-control ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec /usr/libexec/vproxy "$@"
`;

/** Makes the scene's `vproxy` replace a port of the guest with its stand-in. For `prepare`. */
export async function standInForPort(stage: Stage): Promise<void> {
  await stage.run('mkdir -p /usr/libexec && mv /usr/bin/vproxy /usr/libexec/vproxy');
  stage.write('/usr/bin/vproxy', SHIM, 0o755);
}

/** A scene whose guest is this machine; the guest's vproxy starts before the host's. */
export const SAME_MACHINE: Required<Pick<Scene, 'openGuest' | 'isReady'>> = {
  openGuest(stage): Promise<GuestPlace> {
    const shell = new Shell(mkdtempSync(join(tmpdir(), 'guest-')));
    return Promise.resolve<GuestPlace>({
      run: (block) => shell.run(block),
      start: (block, isReady) => {
        const what = `${block.document}:${block.line}: ${commandsOf(block)}`;
        return startStaying(['bash', '--noprofile', '--norc', '-euc', commandsOf(block)], {
          ...{ isReady, what, cwd: stage.home },
        });
      },
    });
  },
  isReady: (output, { marker }) =>
    marker?.kind === 'run' && marker.place === 'guest'
      ? output.includes(`waiting for the peer on unix-listen:${CHANNEL}`)
      : hasSession(output),
};
