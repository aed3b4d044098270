/** The receiving side of a copy. */
import { basename, dirname, join } from 'node:path';
import { protocolError } from '../../errors.js';
import { COPY_KIND, type CopyPlan, decodePlan, encodeMessage } from './copy-messages.js';
import { ComparisonCount } from './copy-progress.js';
import { Warnings } from './kept-list.js';
import { reportStaged } from './staging/manifest.js';
import { removeTree } from './staging/remove.js';
import { checkPlace, placeTarget } from './staging/tree.js';
import { refused, withPath } from './system-files.js';
import { compareNames } from './tar/names.js';
import { type CopyTarget, findTargets } from './targets.js';
import { Unpacking, type UnpackOptions } from './unpacking.js';

interface ReceiveOptions extends UnpackOptions {
  readonly target: string;
  /** The folder that the target must be in; null: anywhere. */
  readonly root: string | null;
  /** The requested names; null if the sender chooses them. */
  readonly names: readonly string[] | null;
  /** Called once all targets are known to be allowed. */
  readonly onTargets?: () => void;
}

/**
 * Receives everything and moves it into place, all or nothing. Resolves with the paths. Rejects with the first failure; the
 * received part is then kept for a later copy if the stream was lost, and removed otherwise.
 */
export async function receiveFiles(options: ReceiveOptions): Promise<string[]> {
  const { records, progress } = options;
  const plan = decodePlan(await records.expect(COPY_KIND.PLAN));
  requireNames(plan, options.names);
  progress.totals = plan.totals;
  const { targets, folder } = await findTargets(options.target, plan.roots, options.root, options.lists);
  try {
    options.onTargets?.();
    return await receiveClaimed(targets, options);
  } finally {
    await folder.close();
  }
}

async function receiveClaimed(targets: readonly CopyTarget[], options: ReceiveOptions): Promise<string[]> {
  const { records } = options;
  const release = claim(targets);
  const warnings = new Warnings(options.warn, 'peer');
  try {
    await receiveInto(targets, { ...options, warn: (message) => warnings.add(message) });
    await records.send(encodeMessage(COPY_KIND.DONE, {}));
    return targets.map(({ path }) => path);
  } catch (error) {
    // If a part cannot be removed, the next copy replaces it.
    if (!records.isLost) for (const { stage } of targets) await removeTree(stage).catch(() => undefined);
    throw error;
  } finally {
    warnings.end();
    release();
  }
}

async function receiveInto(targets: readonly CopyTarget[], options: ReceiveOptions): Promise<void> {
  const { records, isResumed, lists, files } = options;
  if (isResumed) {
    const comparing = new ComparisonCount(options);
    await reportStaged(records, targets, lists, comparing);
    comparing.clear();
  } else {
    for (const { path, stage } of targets) await withPath(path, () => removeTree(stage));
  }
  const unpacking = new Unpacking(targets, options);
  await records.send(encodeMessage(COPY_KIND.READY, { targets: targets.map(({ path }) => path) }));
  await unpacking.run();
  for (const target of targets) await checkPlace(target);
  for (const target of targets) {
    records.check();
    await placeTarget(target, unpacking.inodeOf(target), files);
  }
}

/** A peer asked for some files must not send others, which would replace the requested ones. */
function requireNames({ roots }: CopyPlan, names: readonly string[] | null): void {
  roots.forEach(({ name }, index) => {
    const before = roots[index - 1];
    if (before !== undefined && compareNames(name, before.name) <= 0) throw refused(name, 'sent twice or out of order');
    if (names !== null && !names.includes(name)) throw refused(name, 'not requested');
  });
  if (names !== null && names.length !== roots.length) throw protocolError('copy: some requested files were not sent');
}

/** The targets and parts that copies of this process write to. */
const claimed = new Set<string>();

/** Two copies to one path would write to the same part, as would two files of one copy if one has the name of the other's part. */
function claim(targets: readonly CopyTarget[]): () => void {
  const taken: string[] = [];
  const release = (): void => {
    for (const path of taken) claimed.delete(path);
  };
  for (const { path, stage } of targets) {
    const paths = [path, join(dirname(path), basename(stage))];
    if (paths.some((one) => claimed.has(one))) {
      release();
      throw refused(path, 'another copy to this path, or to the part of it, is in progress');
    }
    for (const one of paths) claimed.add(one);
    taken.push(...paths);
  }
  return release;
}
