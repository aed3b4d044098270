/** What a scene is: the place in which the blocks of a document are run, and what is prepared for them. */
import type { NeedName } from '../../helpers/needs.js';
import type { Block } from '../parse-document.js';
import type { Stage } from './stage.js';
import type { Staying } from './staying.js';

/** Whether a block that stays is ready, judged by all that it has printed so far. */
export type ReadyCheck = (output: string) => boolean | Promise<boolean>;

/** Runs the blocks of a guest. */
export interface GuestPlace {
  /** Runs a block to its end. Rejects with a line that names the block's line, where it failed. */
  run(block: Block): Promise<void>;
  /** Starts a block that stays; resolves when `isReady` says so. The caller stops it. */
  start(block: Block, isReady: ReadyCheck): Promise<Staying>;
}

/** One file of `scenes/` (or a row of a table in one) each. All functions run in the scene's own namespaces. */
export interface Scene {
  /** What the machine must have for it. Default: nothing. */
  readonly needs?: readonly NeedName[];
  /** What must be there before the first block: peers, servers, files. What it starts on the stage ends with the scene. */
  prepare?(stage: Stage): Promise<void>;
  /** When a block that stays is ready. Default: a vproxy in it takes control requests. */
  isReady?(output: string, block: Block, stage: Stage): boolean | Promise<boolean>;
  /**
   * Runs a block that cannot be run as it is written, such as a QEMU command line with `…` in it. False: the block is
   * not one of those.
   */
  runSpecially?(block: Block, stage: Stage): Promise<boolean>;
  /** The guest, in scenes that have one; it is asked for once, before the first block for it. */
  openGuest?(stage: Stage): Promise<GuestPlace>;
  /** What must hold when the last block has been run. Throws where it does not. */
  check?(stage: Stage): Promise<void>;
}
