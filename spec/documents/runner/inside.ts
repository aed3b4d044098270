/** The program that plays a scene, in its namespaces: `node inside.js DOCUMENT SCENE`. It exits when its standard input ends. */
import { writeSync } from 'node:fs';
import { blocksPlayed } from '../document-list.js';
import { SCENES } from '../scenes/index.js';
import { REPORT_FD } from './play.js';
import { blocksOf, runScene } from './run-scene.js';

const [document = '', name = '', text] = process.argv.slice(2);

// The test that started this has exited.
process.stdin.on('end', () => process.exit(1)).resume();

try {
  // The scene for tests of the runner prepares nothing.
  const scene = name === 'empty' ? {} : SCENES[name];
  if (scene === undefined) throw new Error(`there is no scene "${name}"`);
  await runScene(scene, blocksOf(blocksPlayed(document, text), name));
} catch (error) {
  writeSync(REPORT_FD, error instanceof Error ? error.message : String(error));
  process.exit(1);
}
process.exit(0);
