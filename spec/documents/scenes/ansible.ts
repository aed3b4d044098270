/** docs/ansible.md: Debian's ansible-core with the collection at its packaged path, and a guest on the same machine. */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../helpers/files.js';
import type { Scene } from '../runner/scene.js';
import { SAME_MACHINE, standInForPort } from './recipes/same-machine.js';

const COLLECTION = '/usr/share/ansible/collections/ansible_collections/vproxy/vproxy';

export const ansible: Scene = {
  needs: ['ansible'],
  ...SAME_MACHINE,
  async prepare(stage) {
    await standInForPort(stage);
    cpSync(join(PROJECT_ROOT, 'packaging/ansible'), COLLECTION, { recursive: true });
    // Otherwise Ansible warns on stderr that the Python interpreter may change.
    stage.write('ansible.cfg', '[defaults]\ninterpreter_python = /usr/bin/python3\n');
  },
};
