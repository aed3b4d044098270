/** docs/python.md: the package among those of this user. */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../helpers/files.js';
import type { Scene } from '../runner/scene.js';
import { isUp, type Stage } from '../runner/stage.js';
import { virtualMachine } from './virtual-machine.js';
import { oneVm } from './vms.js';

async function installPackage(stage: Stage): Promise<void> {
  const folder = (await stage.run('python3 -m site --user-site || true')).trim();
  cpSync(join(PROJECT_ROOT, 'python/src/vproxy'), join(folder, 'vproxy'), { recursive: true });
}

export const python: Scene = {
  ...oneVm,
  needs: [...(oneVm.needs ?? []), 'python'],
  async prepare(stage) {
    await installPackage(stage);
    await oneVm.prepare?.(stage);
  },
};

/** With a guest whose calls wait for the session, so the scene need not. */
export const pythonStorage: Scene = {
  ...virtualMachine({ prepare: installPackage }),
  needs: ['python'],
  isReady: isUp,
};
