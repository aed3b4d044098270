/** Scenes: the places in which blocks of documents are run, with their preparation. */
import type { NeedName } from '../../helpers/needs.js';
import type { Block } from '../parse-document.js';
import type { Stage } from './stage.js';
import type { Staying } from './staying.js';

/** Whether a staying block is ready, according to all its output so far. */
export type ReadyCheck = (output: string) => boolean | Promise<boolean>;

/** Runs the blocks of a guest. */
export interface GuestPlace {
  /** Runs a block to its end. On failure rejects with a message that names the block's line. */
  run(block: Block): Promise<void>;
  /** Starts a staying block; resolves when `isReady` returns true. The caller stops it. */
  start(block: Block, isReady: ReadyCheck): Promise<Staying>;
}

/** A scene: one file of `scenes/`, or one row of a table there. All functions run in the scene's namespaces. */
export interface Scene {
  /** Required tools. Default: none. */
  readonly needs?: readonly NeedName[];
  /** Prepares peers, servers and files before the first block. Programs started on the stage end with the scene. */
  prepare?(stage: Stage): Promise<void>;
  /** Whether a staying block is ready. Default: when its vproxy takes control requests. */
  isReady?(output: string, block: Block, stage: Stage): boolean | Promise<boolean>;
  /**
   * Runs a block that cannot be run verbatim, such as a QEMU command line with `…` in it. False for any other block.
   */
  runSpecially?(block: Block, stage: Stage): Promise<boolean>;
  /** Makes the guest, if the scene has one; called once, before the first block for it. */
  openGuest?(stage: Stage): Promise<GuestPlace>;
  /** Checks the state after the last block; throws on failure. */
  check?(stage: Stage): Promise<void>;
}
