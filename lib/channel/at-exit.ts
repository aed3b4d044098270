/** What has to be undone when the process exits although nobody closed a channel. */

const undoings = new Set<() => void>();

const runAll = () => {
  for (const undo of undoings) undo();
};

/**
 * Has `undo` called when the process exits by itself (not when a signal kills it). It must be synchronous. The function
 * returned cancels that.
 */
export function atExit(undo: () => void): () => void {
  if (undoings.size === 0) process.once('exit', runAll);
  undoings.add(undo);
  return () => {
    undoings.delete(undo);
    if (undoings.size === 0) process.off('exit', runAll);
  };
}
