/** Runs every command of the documents that needs no VM, verbatim. */
import { serialTestWith } from '../helpers/test-with.js';
import { blocksPlayed, listDocuments } from './document-list.js';
import { scenesOf } from './parse-document.js';
import { play } from './runner/play.js';
import { PLAIN_SCENES } from './scenes/index.js';

const SCENE_MS = 180_000;

for (const path of listDocuments()) {
  for (const scene of scenesOf(blocksPlayed(path))) {
    const found = PLAIN_SCENES[scene];
    if (found === undefined) continue;
    serialTestWith(...(found.needs ?? []))(`${path} does what it shows, in the scene ${scene}`, async (t) => {
      t.timeout(SCENE_MS * 1.5);
      await t.notThrowsAsync(play(path, scene, SCENE_MS));
    });
  }
}
