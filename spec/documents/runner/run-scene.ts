/** Runs the blocks of one scene of one document, in order. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { commandsOf } from '../commands-of.js';
import { type Block, COMMAND_LANGUAGES } from '../parse-document.js';
import { matchesTranscript, parseTranscript } from '../transcript.js';
import { ChannelUse } from './channel-use.js';
import type { GuestPlace, ReadyCheck, Scene } from './scene.js';
import { Shell } from './shell.js';
import { isUp, Stage } from './stage.js';
import { type Staying, startStaying } from './staying.js';

/** Runs the blocks. Rejects with `document:line`, the command, its status and its output, for the first that fails. */
export async function runScene(scene: Scene, blocks: readonly Block[]): Promise<void> {
  const stage = new Stage();
  const folder = mkdtempSync(join(tmpdir(), 'blocks-'));
  const shell = new Shell(folder);
  const channels = new ChannelUse();
  let guest: Promise<GuestPlace> | undefined;
  try {
    await scene.prepare?.(stage);
    for (const block of blocks) {
      const { marker } = block;
      if (marker?.kind === 'file') stage.write(marker.path, block.text);
      if (marker?.kind !== 'run' || (await scene.runSpecially?.(block, stage)) === true) continue;
      if (marker.place === 'guest') guest ??= openGuest(scene, stage);
      const place = marker.place === 'guest' ? await guest : undefined;
      const isReady: ReadyCheck = (output) => isBlockReady(scene, block, stage, output);
      if (!marker.stays) await (place ?? shell).run(block);
      else {
        await channels.free(block, stage);
        const start = place === undefined ? startBlock(stage, folder, block, isReady) : place.start(block, isReady);
        channels.take(block, stage.keep(await start));
      }
    }
    await scene.check?.(stage);
  } catch (error) {
    const logs = stage.logs();
    throw new Error(`${(error as Error).message}${logs === '' ? '' : `\n\nwhat stays has printed\n${logs}`}`, {
      cause: error,
    });
  } finally {
    shell.close();
    await stage.close();
  }
}

function openGuest(scene: Scene, stage: Stage): Promise<GuestPlace> {
  if (scene.openGuest === undefined) throw new Error('this scene has no guest');
  return scene.openGuest(stage);
}

async function startBlock(stage: Stage, folder: string, block: Block, isReady: ReadyCheck): Promise<Staying> {
  const file = join(folder, `stays-${block.line}`, block.document.replaceAll('/', '-'));
  await stage.run(`mkdir -p ${dirname(file)}`);
  writeFileSync(file, `${'\n'.repeat(block.line - 1)}${commandsOf(block)}`);
  const what = `${block.document}:${block.line}: ${commandsOf(block)}`;
  return startStaying(['bash', '--noprofile', '--norc', '-eu', file], { isReady, what, cwd: stage.home });
}

async function isBlockReady(scene: Scene, block: Block, stage: Stage, output: string): Promise<boolean> {
  const shown = block.language === 'console' ? parseTranscript(block.text).flatMap((exchange) => exchange.output) : [];
  if (shown.length > 0 && !matchesTranscript(shown, output)) return false;
  return (await scene.isReady?.(output, block, stage)) ?? isUp(output);
}

/** The blocks of a scene, and its files. */
export function blocksOf(blocks: readonly Block[], scene: string): Block[] {
  return blocks.filter(
    ({ marker, language }) =>
      (marker?.kind === 'run' && marker.scene === scene && COMMAND_LANGUAGES.includes(language)) ||
      (marker?.kind === 'file' && marker.scene === scene),
  );
}
