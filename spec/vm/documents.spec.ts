/** Runs every command of the documents that needs a VM, as written: a guest for each scene. */
import test from 'ava';
import { blocksPlayed, listDocuments } from '../documents/document-list.js';
import { scenesOf } from '../documents/parse-document.js';
import { play } from '../documents/runner/play.js';
import { VM_SCENES } from '../documents/scenes/index.js';
import { debianRoot } from './rig/debian-root.js';

const SCENE_MS = 600_000;
const MAKE_MS = 600_000;

// Scenes have no network to make it from.
test.serial.before('the Debian of the guests exists', (t) => {
  t.timeout(MAKE_MS);
  debianRoot();
});

for (const path of listDocuments()) {
  for (const scene of scenesOf(blocksPlayed(path))) {
    if (!(scene in VM_SCENES)) continue;
    test.serial(`${path} does what it shows, in the scene ${scene}`, async (t) => {
      t.timeout(SCENE_MS * 1.1);
      await t.notThrowsAsync(play(path, scene, SCENE_MS));
    });
  }
}
