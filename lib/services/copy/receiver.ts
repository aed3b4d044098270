/** The receiving side of a copy. */
import { protocolError } from '../../errors.js';
import { COPY_KIND, type CopyPlan, decodePlan, encodeMessage } from './copy-messages.js';
import { ComparisonCount } from './copy-progress.js';
import { Warnings } from './kept-list.js';
import { reportStaged } from './staging/manifest.js';
import { checkPlace, placeTarget } from './staging/tree.js';
import { refused, removeTree, withPath } from './system-files.js';
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
  const targets = await findTargets(options.target, plan.roots, options.root, options.lists);
  const paths = targets.map(({ path }) => path);
  options.onTargets?.();
  const release = claim(targets);
  const warnings = new Warnings(options.warn, 'peer');
  try {
    await receiveInto(targets, { ...options, warn: (message) => warnings.add(message) });
    await records.send(encodeMessage(COPY_KIND.DONE, {}));
    return paths;
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
    comparing.pause();
  } else {
    for (const { path, stage } of targets) await withPath(path, () => removeTree(stage));
  }
  const unpacking = new Unpacking(targets, options);
  await records.send(encodeMessage(COPY_KIND.READY, { targets: targets.map(({ path }) => path) }));
  await unpacking.run();
  for (const target of targets) await checkPlace(target);
  for (const target of targets) {
    records.check();
    await unpacking.requireOwn(target);
    await placeTarget(target, files);
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

/** The paths that copies of this process are writing to. */
const claimed = new Set<string>();

/** Two copies to one path would write into each other's part. */
function claim(targets: readonly CopyTarget[]): () => void {
  const taken = targets.find(({ stage }) => claimed.has(stage));
  if (taken !== undefined) throw refused(taken.path, 'another copy to this path is in progress');
  for (const { stage } of targets) claimed.add(stage);
  return () => {
    for (const { stage } of targets) claimed.delete(stage);
  };
}
